"""Optical flow between frames: methods, their implementations, and which of these a machine takes.

`wtal.extractors.flow.FlowLeaf` says what a method's file holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wtal.errors import UsageError, WtalError
from wtal.extractors.flow import FLOWS
from wtal.registry import suggest

Grays = NDArray[np.uint8]
FlowFields = NDArray[np.float32]

CPU, CUDA = "cpu", "cuda"


class FlowEngine(Protocol):
    """One worker's flow engine: it may keep buffers and must not be shared between threads.

    The flow of a pair depends on its two pictures alone: not on the pairs beside it, on what the engine saw before,
    nor on the number of threads.
    """

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """(N, H, W), (N, H, W) -> (N, H, W, 2) displacement in pixels, x to the right and y down, first to second."""
        ...


@dataclass(frozen=True)
class FlowMethod:
    """A resolved flow method: what the store's identity records, and how to make an engine.

    `identity` is JSON: name, implementation, library version and every parameter that can change a number. `pairs` is
    how many pairs one engine wants at once: with 1, engines work side by side, one a thread; an engine that wants more
    fills a device alone.
    """

    name: str
    implementation: str
    identity: dict[str, Any] = field(hash=False)
    engine: Callable[[], FlowEngine] = field(compare=False)
    pairs: int = 1

    def new(self) -> FlowEngine:
        """A fresh engine for one thread."""
        return self.engine()

    def engines(self, threads: int) -> list[FlowEngine]:
        """Make as many fresh engines as `threads` can keep busy."""
        return [self.engine() for _ in range(threads if self.pairs == 1 else 1)]


@dataclass(frozen=True)
class Implementation:
    """One way to compute a method.

    `why_not` takes the device ("cpu", "cuda" or "cuda:1") and gives None where this machine can run it there, else the
    reason in a few words; `identity` gives the library version and the parameters; `engine` takes the device and makes
    an engine. `pairs` as in `FlowMethod`. On a device of a kind among `kinds` it comes before those that are at home
    elsewhere.
    """

    why_not: Callable[[str], str | None]
    identity: Callable[[], dict[str, Any]]
    engine: Callable[[str], FlowEngine]
    kinds: tuple[str, ...] = (CPU,)
    pairs: int = 1


def resolve_flow(name: str, wanted: str | None, table: Mapping[str, Implementation], device: str = CPU) -> FlowMethod:
    """The implementation `wanted` from a leaf's `table`, or with None the first for `device` that this machine can run.

    With None and a CUDA device those of the table that are at home there come first, then those of the CPU.

    Raises:
        UsageError: when `wanted` is not in the table.
        WtalError: when `wanted`, or with None each of the table, cannot run on this machine.
    """
    if wanted is not None and wanted not in table:
        raise UsageError(f"flow {name} has no implementation {wanted!r}; {suggest(wanted, table)}")
    reasons = {}
    for implementation in [wanted] if wanted is not None else _in_order(table, device.partition(":")[0]):
        entry = table[implementation]
        if (reason := entry.why_not(device)) is None:
            identity = {"name": name, "implementation": implementation, **entry.identity()}
            return FlowMethod(name, implementation, identity, partial(entry.engine, device), entry.pairs)
        reasons[implementation] = reason
    raise WtalError("; ".join(f"flow {name}:{key} cannot run here: {reason}" for key, reason in reasons.items()))


def _in_order(table: Mapping[str, Implementation], kind: str) -> list[str]:
    """Names of the table: those at home on `kind`, then, unless that is the CPU, those of the CPU."""
    kinds = dict.fromkeys([kind, CPU])
    return list(dict.fromkeys(name for each in kinds for name, entry in table.items() if each in entry.kinds))


def extend_edges(images: Grays, side: int) -> Grays:
    """(..., H, W) -> (..., max(H, side), max(W, side)), contiguous: the last row and column repeated down and right."""
    down, right = (max(side - length, 0) for length in images.shape[-2:])
    if down or right:
        around = [(0, 0)] * (images.ndim - 2)
        images = np.pad(images, [*around, (0, down), (0, right)], mode="edge")
    return np.ascontiguousarray(images)


def create_flow(name: str, device: str = CPU) -> FlowMethod:
    """The flow method `name`, or `name:implementation`, for `device`: "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: when there is no such method or implementation.
        WtalError: when the implementation cannot run on this machine.
    """
    _, colon, implementation = name.partition(":")
    return FLOWS.load(name).create(implementation if colon else None, device)
