"""Cut a stream of frames into snippet windows in one pass and bounded memory.

`Windows` cuts a sequence of frames, or of flows, into the windows of `SnippetGrid.window`: the same arrays however the
frames came in chunks, and without knowing how many come.
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
        """Frames that are held for windows to come."""
        return len(self._frames)

    def push(self, frames: NDArray[Any]) -> Iterator[Batch]:
        """(n, H, W, C), the next frames -> full batches of windows that are complete with them; consume them all."""
        for frame in frames:
            # A copy, so that one held frame does not hold the memory of its whole chunk.
            self._frames.append(frame.copy())
            if self._complete() >= self._snippet + self._batch:
                yield self._take(self._snippet + self._batch)

    def finish(self) -> Iterator[Batch]:
        """Batches of the windows that are left; nothing may be pushed afterwards."""
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
        # Each frame is copied once; where windows overlap without a border frame in them, they are views of it.
        start = index.min()
        frames = np.stack([self._frames[i] for i in range(start, index.max() + 1)])
        self._snippet = stop
        self._forget(self._grid.window(stop).start)
        return first, _overlapping(frames, index - start)

    def _forget(self, start: int) -> None:
        # The last frame stays, as it may have to stand in for those that never come.
        while self._base < start and len(self._frames) > 1:
            self._frames.popleft()
            self._base += 1


def _overlapping(frames: NDArray[Any], index: NDArray[np.intp]) -> NDArray[Any]:
    """(m, H, W, C), (n, L) -> (n, L, H, W, C), nothing copied where rows of `index` are runs, equally far apart."""
    steps, jumps = np.diff(index, axis=1), np.diff(index[:, 0])
    if (steps != 1).any() or (jumps != jumps[:1]).any():
        return np.asarray(frames[index])
    stride = frames.strides[0]
    strides = (int(jumps[0]) * stride if len(jumps) else stride, stride, *frames.strides[1:])
    return np.lib.stride_tricks.as_strided(frames[index[0, 0] :], (*index.shape, *frames.shape[1:]), strides)
