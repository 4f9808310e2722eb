"""One video's frames on their way: to optical flow, to the clips of its snippets, to features.

Both yield the same arrays however the frames were cut into chunks and however many threads worked.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.windows import Windows
from wtal.extractors.execution.worker_stage import Stage
from wtal.extractors.optical_flow import FlowMethod

COLOUR = "colour"
_PAIRS_AHEAD = 128
"""Of all videos in flight, whose flow is not there yet; or twice what their stage runs together, where that is more."""


class Taker(Protocol):
    """Who takes flows as they come."""

    def push(self, frames: NDArray[Any]) -> None:
        """(n, H, W, 2), the next ones."""
        ...

    def end(self) -> None:
        """No more come."""
        ...


def flows_of(frames: NDArray[np.uint8], method: FlowMethod, threads: int) -> NDArray[np.float32]:
    """A whole video at once: (N, H, W, 3) uint8 RGB -> (N, H, W, 2) float32 flow in pixels, as extraction makes it."""
    times, kept = TimeTable(), _Kept()
    with Stage(
        "flow", "pairs", method.engines(threads), times, joined=method.pairs if method.pairs > 1 else 0
    ) as stage:
        flow = Flow(stage, times, [kept])
        flow.push(frames)
        flow.finish()
    return np.concatenate(kept.flows)


class _Kept:
    """A taker that keeps what comes."""

    def __init__(self) -> None:
        self.flows: list[NDArray[Any]] = []

    def push(self, frames: NDArray[Any]) -> None:
        self.flows.append(frames)

    def end(self) -> None:
        pass


class Features:
    """One stream of one video for one backbone: frames or flows in, clips to its stage, features out.

    Clips go through `prepare` in this video's thread, before they wait for the stage.
    """

    def __init__(
        self,
        stage: Stage,
        windows: Windows,
        dim: int,
        dtype: str,
        prepare: Callable[[NDArray[Any]], NDArray[Any]] = lambda clips: clips,
    ) -> None:
        self._stage, self._windows, self._dim, self._dtype = stage, windows, dim, np.dtype(dtype)
        self._prepare = prepare
        self._rows: list[Future[NDArray[Any]]] = []

    def push(self, frames: NDArray[Any]) -> None:
        """(n, H, W, C), the next frames or flows; it waits while the backbone is behind."""
        self._rows += [self._stage.submit(self._prepare(clips)) for _, clips in self._windows.push(frames)]

    def end(self) -> None:
        """No more frames come."""
        self._rows += [self._stage.submit(self._prepare(clips)) for _, clips in self._windows.finish()]

    def features(self) -> NDArray[Any]:
        """(T, D), when they are there."""
        rows = [row.result().astype(self._dtype) for row in self._rows]
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), self._dtype)


class Flow:
    """One video's optical flow by one method, for all who take it.

    Flow j goes from frame j to frame j + 1, across chunks and snippets; the last is repeated, so that N frames have N
    flows, and a video of one frame has zero flow. `share` says how many videos there are now that share the pairs which
    may be ahead.
    """

    def __init__(
        self, stage: Stage, times: TimeTable, takers: Sequence[Taker], share: Callable[[], int] = lambda: 1
    ) -> None:
        self.takers, self._share = takers, share
        self._stage, self._times = stage, times
        self._before: NDArray[np.uint8] | None = None
        self._pending: deque[list[Future[NDArray[Any]]]] = deque()
        self._waiting = 0
        self._last: NDArray[Any] | None = None

    def push(self, frames: NDArray[np.uint8]) -> None:
        """(n, H, W, 3) uint8 RGB, the next frames; it waits while too many of those before have no flow yet."""
        with self._times.busy(COLOUR, len(frames), "frames"):
            grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        line = grays if self._before is None else [self._before, *grays]
        if len(line) > 1:
            self._pending.append(self._order(np.stack(line)))
            self._waiting += len(line) - 1
        self._before = line[-1] if line else None
        self._settle(max(_PAIRS_AHEAD, 2 * self._stage.joined) // max(1, self._share()))

    def finish(self) -> None:
        """No more frames come: the last flow stands in for the last frame's."""
        self._settle(0)
        if self._before is not None:
            self._give(np.zeros((1, *self._before.shape, 2), np.float32) if self._last is None else self._last)
        for taker in self.takers:
            taker.end()

    def _order(self, line: NDArray[np.uint8]) -> list[Future[NDArray[Any]]]:
        """Frames (n + 1, H, W) -> their n flows to come: one order a pair for workers side by side, or all at once."""
        if self._stage.joined:
            return [self._stage.submit(line[:-1], line[1:])]
        return [self._stage.submit(line[j : j + 1], line[j + 1 : j + 2]) for j in range(len(line) - 1)]

    def _settle(self, left: int) -> None:
        """Hand on flows, in order, until at most `left` pairs wait for theirs."""
        while self._waiting > left:
            flows = np.concatenate([flow.result() for flow in self._pending.popleft()])
            self._waiting -= len(flows)
            self._last = flows[-1:].copy()
            self._give(flows)

    def _give(self, flows: NDArray[Any]) -> None:
        for taker in self.takers:
            taker.push(flows)
