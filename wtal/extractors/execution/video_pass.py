"""One pass over a video's frames: to optical flow, to the clips of its snippets, to features.

Both classes yield the same arrays, regardless of the chunks of frames and the number of threads.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.extractors.execution.jobs import StreamJob
from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.worker_stage import Stage

COLOUR = "colour"
_PAIRS_AHEAD = 32
"""Maximum pairs with pending flow on a CPU, for all videos in flight together."""
_PAIRS_AHEAD_OF_A_DEVICE = 128
"""The same on a device, or twice its stage's `joined`, if more."""


class FrameSink(Protocol):
    """Consumer of the frames, or the flow, of one video in order."""

    def push(self, frames: NDArray[Any]) -> None:
        """Take the next ones, (n, H, W, C)."""
        ...

    def end(self) -> None:
        """Signal the end of the frames."""
        ...


class StreamFeatures:
    """Features of one stream of one video: frames or flow in, clips to the stage, rows out."""

    def __init__(self, stage: Stage, job: StreamJob) -> None:
        self._stage, self._job = stage, job
        self._windows = job.windows()
        self._rows: list[Future[NDArray[Any]]] = []

    def push(self, frames: NDArray[Any]) -> None:
        """Take the next frames or flows, (n, H, W, C); wait while the backbone is behind."""
        self._rows += [self._submit(clips) for _, clips in self._windows.push(frames)]

    def end(self) -> None:
        """Submit the remaining clips."""
        self._rows += [self._submit(clips) for _, clips in self._windows.finish()]

    def result(self) -> NDArray[Any]:
        """Wait for all features, and return them as (T, D)."""
        rows = [row.result().astype(self._job.dtype) for row in self._rows]
        return np.concatenate(rows) if rows else np.zeros((0, self._job.dim), self._job.dtype)

    def _submit(self, clips: NDArray[Any]) -> Future[NDArray[Any]]:
        return self._stage.submit(self._job.prepare(clips))


class VideoFlow:
    """Optical flow of one video by one method, passed on to every stream that uses it.

    Flow j goes from frame j to frame j + 1, across chunks and snippets; the last is repeated, so that N frames have N
    flows, and a video of one frame has zero flow. `in_flight` returns the number of videos that share the limit of
    pending pairs.
    """

    def __init__(
        self, stage: Stage, times: TimeTable, sinks: Sequence[FrameSink], in_flight: Callable[[], int] = lambda: 1
    ) -> None:
        self._stage, self._times, self._sinks, self._in_flight = stage, times, sinks, in_flight
        self._previous: NDArray[np.uint8] | None = None
        self._pending: deque[list[Future[NDArray[Any]]]] = deque()
        self._pairs_pending = 0
        self._last: NDArray[Any] | None = None

    def push(self, frames: NDArray[np.uint8]) -> None:
        """Take the next frames, (n, H, W, 3) uint8 RGB; wait while too many earlier pairs are pending."""
        if len(frames):
            self._submit(self._grays(frames))
        self._hand_on(max(1, self._pairs_ahead() // max(1, self._in_flight())))

    def end(self) -> None:
        """Pass on pending flow; the last flow is repeated for the last frame."""
        self._hand_on(0)
        if self._previous is not None:
            zero = np.zeros((1, *self._previous.shape, 2), np.float32)
            self._push_on(zero if self._last is None else self._last)
        for sink in self._sinks:
            sink.end()

    def _grays(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert (n, H, W, 3) -> (n, H, W), preceded by the last frame of the previous chunk if there is one."""
        with self._times.busy(COLOUR, len(frames), "frames"):
            grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
            joined = np.stack(grays if self._previous is None else [self._previous, *grays])
        self._previous = joined[-1]
        return joined.astype(np.uint8, copy=False)

    def _submit(self, grays: NDArray[np.uint8]) -> None:
        """Submit the flow between (n + 1, H, W) frames: in one part per engine, or whole if the stage joins pairs."""
        pairs = len(grays) - 1
        if not pairs:
            return
        parts = 1 if self._stage.joined else min(pairs, self._stage.num_functions)
        ends = [pairs * part // parts for part in range(parts + 1)]
        orders = [self._stage.submit(grays[start:stop], grays[start + 1 : stop + 1]) for start, stop in pairwise(ends)]
        self._pending.append(orders)
        self._pairs_pending += pairs

    def _pairs_ahead(self) -> int:
        joined = self._stage.joined
        return max(_PAIRS_AHEAD_OF_A_DEVICE, 2 * joined) if joined else _PAIRS_AHEAD

    def _hand_on(self, limit: int) -> None:
        """Pass on flow, in order, until at most `limit` pairs are pending."""
        while self._pairs_pending > limit:
            flows = [order.result() for order in self._pending.popleft()]
            self._pairs_pending -= sum(map(len, flows))
            self._last = flows[-1][-1:].copy()
            for flow in flows:
                self._push_on(flow)

    def _push_on(self, flows: NDArray[Any]) -> None:
        for sink in self._sinks:
            sink.push(flows)
