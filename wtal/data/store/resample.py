"""Resample streams that were extracted at different rates to a common grid. No torch."""

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid


def resampled(values: NDArray[np.floating], grid: SnippetGrid, target: SnippetGrid) -> NDArray[np.floating]:
    """(T, D) on `grid` -> (T', D) on `target`: linear between the middles of snippets in seconds, constant beyond.

    On an equal grid the values are unchanged, bit for bit.
    """
    if len(values) == target.num_snippets and np.array_equal(grid.centers(), target.centers()):
        return values
    centers, targets = grid.centers(), target.centers()
    right = np.clip(np.searchsorted(centers, targets), 1, max(len(centers) - 1, 1))
    left, right = right - 1, np.minimum(right, len(centers) - 1)
    gap = centers[right] - centers[left]
    share = np.divide(targets - centers[left], gap, out=np.zeros_like(targets), where=gap > 0).clip(0.0, 1.0)[:, None]
    mixed = values[left].astype(np.float64) * (1 - share) + values[right].astype(np.float64) * share
    result: NDArray[np.floating] = mixed.astype(values.dtype)
    return result
