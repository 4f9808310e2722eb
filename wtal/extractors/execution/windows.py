"""Cut a stream of frames into snippet windows in one pass and bounded memory.

`Windows` cuts a sequence of frames, or of flows, into the windows of `SnippetGrid.window`: the same arrays for any
chunks of frames, and without knowing the total number.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid, TailPolicy

Batch = tuple[int, NDArray[Any]]


class Windows:
    """Cut chunks (n, H, W, C) of one sequence -> batches (first snippet, (n, L, H, W, C)) of the snippets' windows.

    Snippet i uses the frames `SnippetGrid.window(i)`; outside the sequence its border frame is repeated. With
    `tail="pad"`, N frames give ceil(N / stride) snippets, the last padded with the last frame; with `tail="drop"`, N //
    stride. A batch holds at most `batch` snippets, in order. Only frames needed by future windows are kept: at most
    about span + stride of them besides the chunk being pushed.

    Raises:
        ValueError: when stride, span or batch is not positive.
    """

    def __init__(self, stride: int, span: int, tail: TailPolicy = "pad", batch: int = 16) -> None:
        if batch < 1:
            raise ValueError(f"a batch holds at least one snippet, got {batch}")
        # `window` does not depend on the number of frames, which is not known yet.
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
    def held(self) -> int:
        """Frames held for future windows."""
        return len(self._frames)

    def push(self, frames: NDArray[Any]) -> Iterator[Batch]:
        """Push the next frames (n, H, W, C) and yield the full batches that they complete; consume them all."""
        for frame in frames:
            # A copy, so that one held frame does not keep the memory of its whole chunk alive.
            self._frames.append(frame.copy())
            if self._complete() >= self._snippet + self._batch:
                yield self._take(self._snippet + self._batch)

    def finish(self) -> Iterator[Batch]:
        """Yield batches of the remaining windows; nothing may be pushed afterwards."""
        total = -(-self.count // self._stride) if self._grid.tail == "pad" else self.count // self._stride
        while self._snippet < total:
            yield self._take(min(total, self._snippet + self._batch))
        self._frames.clear()

    def _complete(self) -> int:
        """Count snippets whose window and own frames lie before the end of the pushed frames."""
        reach = max(self._grid.window(0).stop, self._stride)
        return max(0, (self.count - reach) // self._stride + 1)

    def _take(self, stop: int) -> Batch:
        first, last = self._snippet, self.count - 1
        index = np.array([self._grid.window(i) for i in range(first, stop)]).clip(0, last) - self._base
        # Each frame is copied once; overlapping windows without a border frame are views of that copy.
        start = index.min()
        frames = np.stack([self._frames[i] for i in range(start, index.max() + 1)])
        self._snippet = stop
        self._forget(self._grid.window(stop).start)
        return first, _overlapping(frames, index - start)

    def _forget(self, start: int) -> None:
        # The last frame stays, as it may have to be repeated beyond the end.
        while self._base < start and len(self._frames) > 1:
            self._frames.popleft()
            self._base += 1


def _overlapping(frames: NDArray[Any], index: NDArray[np.intp]) -> NDArray[Any]:
    """Map (m, H, W, C), (n, L) -> (n, L, H, W, C), without a copy if rows of `index` are equally spaced runs."""
    steps, jumps = np.diff(index, axis=1), np.diff(index[:, 0])
    if (steps != 1).any() or (jumps != jumps[:1]).any():
        return np.asarray(frames[index])
    stride = frames.strides[0]
    strides = (int(jumps[0]) * stride if len(jumps) else stride, stride, *frames.strides[1:])
    return np.lib.stride_tricks.as_strided(frames[index[0, 0] :], (*index.shape, *frames.shape[1:]), strides)
