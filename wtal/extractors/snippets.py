"""Frames that come in chunks, to the windows of the snippets: one pass, bounded memory, the end unknown until it comes.

`Flows` turns chunks of frames into chunks of optical flow, pair by pair across chunk and snippet borders. `Windows`
cuts a sequence of frames, or of flows, into the windows of `SnippetGrid.window`. Both yield the same arrays however
the frames were cut into chunks and however many threads worked.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid, TailPolicy
from wtal.extractors.optical_flow import FlowEngine

Batch = tuple[int, NDArray[Any]]


class Windows:
    """Chunks (n, H, W, C) of one sequence -> batches (first snippet, (n, L, H, W, C)) of the snippets' windows.

    Snippet i sees the frames `SnippetGrid.window(i)`; outside the sequence its border frame stands in. With
    `tail="pad"` N frames give ceil(N / stride) snippets, the last filled with its last frame; with `tail="drop"`
    N // stride. A batch holds at most `batch` snippets, in order. Only the frames that windows to come can see are
    kept: at most about span + stride of them beside the chunk that is being pushed.

    Raises:
        ValueError: when stride, span or batch is not positive.
    """

    def __init__(self, stride: int, span: int, tail: TailPolicy = "pad", batch: int = 16) -> None:
        if batch < 1:
            raise ValueError(f"a batch holds at least one snippet, got {batch}")
        # The grid of an endless sequence: it is asked for windows alone.
        self._grid = SnippetGrid(Fraction(1), 1, Fraction(stride), span, tail)
        self._stride = stride
        self._batch = batch
        self._frames: deque[NDArray[Any]] = deque()
        self._base = 0
        self._snippet = 0

    @property
    def count(self) -> int:
        """Frames pushed so far."""
        return self._base + len(self._frames)

    @property
    def kept(self) -> int:
        """Frames that are held for windows to come."""
        return len(self._frames)

    def push(self, frames: NDArray[Any]) -> Iterator[Batch]:
        """(n, H, W, C), the next frames -> batches of the windows that are complete with them; consume them all."""
        for frame in frames:
            # A copy, so that one kept frame does not hold the memory of its whole chunk.
            self._frames.append(frame.copy())
            if self._complete() >= self._snippet + self._batch:
                yield self._take(self._snippet + self._batch)
        if (complete := self._complete()) > self._snippet:
            yield self._take(complete)

    def finish(self) -> Iterator[Batch]:
        """Batches of the windows that reach past the last frame; nothing may be pushed afterwards."""
        total = -(-self.count // self._stride) if self._grid.tail == "pad" else self.count // self._stride
        while self._snippet < total:
            yield self._take(min(total, self._snippet + self._batch))
        self._frames.clear()

    def _complete(self) -> int:
        """Snippets whose window and whose own frames lie before the end of what was pushed."""
        reach = max(self._grid.window(0).stop, self._stride)
        return max(0, (self.count - reach) // self._stride + 1)

    def _take(self, stop: int) -> Batch:
        first, last = self._snippet, self.count - 1
        index = np.array([self._grid.window(i) for i in range(first, stop)]).clip(0, last) - self._base
        kept = np.stack([self._frames[i] for i in range(int(index.min()), int(index.max()) + 1)])
        self._snippet = stop
        self._forget(self._grid.window(stop).start)
        return first, kept[index - index.min()]

    def _forget(self, start: int) -> None:
        # The last frame stays, as it may have to stand in for those that never come.
        while self._base < start and len(self._frames) > 1:
            self._frames.popleft()
            self._base += 1


class Flows:
    """Chunks (n, H, W, 3) uint8 RGB of one sequence -> chunks (m, H, W, 2) float32 of its optical flow, in pixels.

    Flow j goes from frame j to frame j + 1; the last is repeated, so that N frames have N flows, and a sequence of
    one frame has zero flow. `engines` share the pairs, each in one task of `pool`: one engine never works for two
    threads at once, and the flow of a pair does not depend on which engine made it, nor on the pairs beside it. An
    engine is given `pairs` pairs at once; frames wait until there are so many, or until the end.

    Raises:
        ValueError: when there is no engine, or `pairs` is not positive.
    """

    def __init__(self, engines: Sequence[FlowEngine], pool: Executor, pairs: int = 1) -> None:
        if not engines:
            raise ValueError("optical flow needs at least one engine, got none")
        if pairs < 1:
            raise ValueError(f"an engine takes at least one pair, got {pairs}")
        self._engines = list(engines)
        self._pool = pool
        self._pairs = pairs
        self._grays: list[NDArray[np.uint8]] = []
        self._last: NDArray[np.float32] | None = None

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, H, W, 3) uint8 RGB, the next frames -> (m, H, W, 2): the flows that follow on those given before."""
        self._grays += [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False) for frame in frames]
        waiting = max(0, len(self._grays) - 1)
        return self._take(waiting - waiting % self._pairs)

    def finish(self) -> NDArray[np.float32]:
        """The flows that still wait, and the one that stands in for the last frame's: (m, H, W, 2).

        (0, 0, 0, 2) where no frame was pushed.
        """
        if not self._grays:
            return np.empty((0, 0, 0, 2), np.float32)
        flows = self._take(len(self._grays) - 1)
        last = np.zeros((*self._grays[-1].shape, 2), np.float32) if self._last is None else self._last
        return np.concatenate([flows, last[None]])

    def _take(self, count: int) -> NDArray[np.float32]:
        """The flows of the first `count` pairs; the frame that the next pair begins with stays."""
        flows = pair_flows(self._grays[: count + 1], self._engines, self._pool, self._pairs)
        self._grays = self._grays[count:]
        if len(flows):
            self._last = flows[-1].copy()
        return flows


def pair_flows(
    grays: Sequence[NDArray[np.uint8]], engines: Sequence[FlowEngine], pool: Executor, pairs: int = 1
) -> NDArray[np.float32]:
    """Frames n x (H, W) uint8 -> (n - 1, H, W, 2) float32 pixels, from each frame to the next."""
    height, width = grays[0].shape if grays else (0, 0)
    flows = np.empty((max(0, len(grays) - 1), height, width, 2), np.float32)
    if not len(flows):
        return flows
    stack = np.stack(grays)
    starts = iter(range(0, len(flows), pairs))

    def work(engine: FlowEngine) -> None:
        # Pairs take unlike times: who is free takes the next ones.
        for start in starts:
            part = slice(start, min(start + pairs, len(flows)))
            flows[part] = engine(stack[:-1][part], stack[1:][part])

    list(pool.map(work, engines[: -(-len(flows) // pairs)]))
    return flows
