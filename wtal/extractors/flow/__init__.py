"""One optical flow method per file; the contract of a file is `FlowLeaf`."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.optical_flow import FlowMethod, Implementation


class FlowLeaf(Protocol):
    """A module of `flow/`, named as `tvl1` or, with an implementation, `tvl1:opencv-contrib`."""

    @property
    def IMPLEMENTATIONS(self) -> "Mapping[str, Implementation]":
        """Implementations of the method, by the name after the colon."""

    def create(self, implementation: str | None, device: str) -> "FlowMethod":
        """Resolve the method for a device; None takes the best implementation available on this machine.

        The resolved name and parameters go into a store's identity.

        Raises:
            UsageError: when the implementation is unknown.
            WtalError: when it cannot run on this machine.
        """


FLOWS = Registry[FlowLeaf]("flow", __name__, FlowLeaf)
