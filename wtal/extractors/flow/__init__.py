"""One optical flow method per file, and creation by name; `FlowLeaf` is the contract of a file."""
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


FLOWS = Registry[FlowLeaf]("flow", __name__, FlowLeaf, "flow method")


def create_flow(name: str, device: str = "cpu") -> "FlowMethod":
    """Create the flow method `name`, or `name:implementation`, for `device`: "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: when the method or implementation is unknown.
        WtalError: when the implementation cannot run on this machine.
    """
    _, colon, implementation = name.partition(":")
    return FLOWS.load(name).create(implementation if colon else None, device)
