"""One optical flow method per file; `FlowLeaf` says what a file holds."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.optical_flow import FlowMethod, Implementation


class FlowLeaf(Protocol):
    """A module of `flow/`. A user names its method `tvl1` or `tvl1:opencv-contrib`."""

    @property
    def IMPLEMENTATIONS(self) -> "Mapping[str, Implementation]":
        """The ways to compute the method, by the name behind the colon."""

    def create(self, implementation: str | None, device: str) -> "FlowMethod":
        """Resolve the method for a device; None takes the best implementation that this machine has for it.

        The resolved name and parameters go into a store's identity.

        Raises:
            UsageError: when there is no such implementation.
            WtalError: when it cannot run on this machine.
        """


FLOWS = Registry[FlowLeaf]("flow", __name__, FlowLeaf)
