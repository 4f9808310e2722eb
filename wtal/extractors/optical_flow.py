"""Optical flow between frames: methods, their implementations, and the choice among these on a machine.

`wtal.extractors.flow` has the contract of a method's file, and creates methods by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wtal.errors import UsageError, WtalError
from wtal.registry import suggest

Grays = NDArray[np.uint8]
FlowFields = NDArray[np.float32]

CPU, CUDA = "cpu", "cuda"


class FlowEngine(Protocol):
    """Flow engine of one worker: it may keep buffers and must not be shared between threads.

    The flow of a pair depends only on its two pictures: not on adjacent pairs, on earlier input of the engine, nor on
    the number of threads.
    """

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) -> (N, H, W, 2) displacement in pixels, x right and y down, first to second."""
        ...


@dataclass(frozen=True)
class FlowMethod:
    """A resolved flow method: its record in the store's identity, and a factory of engines.

    `identity` is JSON: name, implementation, library version and every parameter that affects a number. `pairs` is the
    number of pairs that one engine prefers at once: with 1, engines work in parallel, one per thread; an engine that
    prefers more fills a device alone.
    """

    name: str
    implementation: str
    identity: dict[str, Any] = field(hash=False)
    engine: Callable[[], FlowEngine] = field(compare=False)
    pairs: int = 1

    def new(self) -> FlowEngine:
        """Create a fresh engine for one thread."""
        return self.engine()

    def engines(self, threads: int) -> list[FlowEngine]:
        """Create as many fresh engines as `threads` can keep busy."""
        return [self.engine() for _ in range(threads if self.pairs == 1 else 1)]


@dataclass(frozen=True)
class Implementation:
    """One implementation of a method.

    `why_not` takes the device ("cpu", "cuda" or "cuda:1") and returns None if this machine can run it there, else the
    reason in a few words; `identity` returns the library version and the parameters; `engine` takes the device and
    creates an engine. `pairs` as in `FlowMethod`. On a device of a kind in `kinds`, it takes precedence over
    implementations native to other kinds.
    """

    why_not: Callable[[str], str | None]
    identity: Callable[[], dict[str, Any]]
    engine: Callable[[str], FlowEngine]
    kinds: tuple[str, ...] = (CPU,)
    pairs: int = 1


def resolve_flow(name: str, wanted: str | None, table: Mapping[str, Implementation], device: str = CPU) -> FlowMethod:
    """Return `wanted` from a leaf's `table`, or with None the first for `device` that this machine can run.

    With None and a CUDA device, those of the table that are native to it come first, then those of the CPU.

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
    """Return names of the table: those native to `kind`, then, unless that is the CPU, those of the CPU."""
    kinds = dict.fromkeys([kind, CPU])
    return list(dict.fromkeys(name for each in kinds for name, entry in table.items() if each in entry.kinds))


def extend_edges(images: Grays, side: int) -> Grays:
    """Extend (..., H, W) -> (..., max(H, side), max(W, side)), contiguous, repeating the last row and column."""
    down, right = (max(side - length, 0) for length in images.shape[-2:])
    if down or right:
        around = [(0, 0)] * (images.ndim - 2)
        images = np.pad(images, [*around, (0, down), (0, right)], mode="edge")
    return np.ascontiguousarray(images)
