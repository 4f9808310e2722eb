"""Optical flow between frames: the contract of `flow/`.

A leaf of `flow/` holds `create(implementation: str | None) -> FlowMethod`. `wtal` names a method `tvl1` or
`tvl1:opencv-contrib`; without the part behind the colon the leaf takes the best implementation this machine has, and
the resolved name and parameters go into the store's identity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wtal.errors import UsageError, WtalError
from wtal.registry import FLOWS, suggest

Gray = NDArray[np.uint8]
FlowField = NDArray[np.float32]


class PairFlow(Protocol):
    """One worker's flow engine: it may keep buffers and must not be shared between threads."""

    def __call__(self, first: Gray, second: Gray) -> FlowField:
        """(H, W), (H, W) -> (H, W, 2) displacement in pixels, x to the right and y down, from first to second."""
        ...


@dataclass(frozen=True)
class FlowMethod:
    """A resolved flow method: what the store's identity records, and how to make an engine.

    `identity` is JSON: name, implementation, library version and every parameter that can change a number.
    """

    name: str
    implementation: str
    identity: dict[str, Any] = field(hash=False)
    engine: Callable[[], PairFlow] = field(compare=False)

    def new(self) -> PairFlow:
        """A fresh engine for one thread."""
        return self.engine()


@dataclass(frozen=True)
class Implementation:
    """One way to compute a method.

    `why_not` gives None where this machine can run it, else the reason in a few words; `identity` gives the library
    version and the parameters; `engine` makes an engine.
    """

    why_not: Callable[[], str | None]
    identity: Callable[[], dict[str, Any]]
    engine: Callable[[], PairFlow]


def resolve_flow(name: str, wanted: str | None, table: Mapping[str, Implementation]) -> FlowMethod:
    """The implementation `wanted` from a leaf's `table`, or with None the first that this machine can run.

    Raises:
        UsageError: when `wanted` is not in the table.
        WtalError: when `wanted`, or with None each of the table, cannot run on this machine.
    """
    if wanted is not None and wanted not in table:
        raise UsageError(f"flow {name} has no implementation {wanted!r}; {suggest(wanted, table)}")
    reasons = {}
    for implementation in [wanted] if wanted else table:
        found = table[implementation]
        if (reason := found.why_not()) is None:
            identity = {"name": name, "implementation": implementation, **found.identity()}
            return FlowMethod(name, implementation, identity, found.engine)
        reasons[implementation] = reason
    raise WtalError("; ".join(f"flow {name}:{key} cannot run here: {reason}" for key, reason in reasons.items()))


def extend_edges(image: Gray, side: int) -> Gray:
    """(H, W) -> (max(H, side), max(W, side)), contiguous: the last row and column are repeated down and right."""
    down, right = (max(side - length, 0) for length in image.shape)
    if down or right:
        image = np.pad(image, ((0, down), (0, right)), mode="edge")
    return np.ascontiguousarray(image)


def create_flow(name: str) -> FlowMethod:
    """The flow method `name`, or `name:implementation`.

    Raises:
        UsageError: when there is no such method or implementation.
        WtalError: when the implementation cannot run on this machine.
    """
    implementation = name.partition(":")[2] or None
    method: FlowMethod = FLOWS.load(name).create(implementation)
    return method
