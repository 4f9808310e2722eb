"""Optical flow between frames: the contract of `flow/`.

A leaf of `flow/` holds `create(implementation: str | None) -> FlowMethod`. `wtal` names a method `tvl1` or
`tvl1:opencv-contrib`; without the part behind the colon the leaf takes the best implementation this machine has, and
the resolved name and parameters go into the store's identity.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wtal.registry import FLOWS

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
    engine: type[PairFlow] | Any = field(hash=False)

    def new(self) -> PairFlow:
        """A fresh engine for one thread."""
        made: PairFlow = self.engine()
        return made


def create_flow(name: str) -> FlowMethod:
    """The flow method `name`, or `name:implementation`.

    Raises:
        UsageError: when there is no such method or implementation.
        WtalError: when the implementation cannot run on this machine.
    """
    implementation = name.partition(":")[2] or None
    method: FlowMethod = FLOWS.load(name).create(implementation)
    return method
