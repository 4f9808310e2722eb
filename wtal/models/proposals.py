"""One signal over time -> segments that stand out of it. Positions count on the signal's own axis. No torch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Runs = NDArray[np.int64]


def upsample(values: Array, factor: int) -> Array:
    """(T, C) -> (T * factor, C), linear between the snippets' middles, constant beyond the first and the last."""
    if factor == 1:
        return values
    positions = np.clip((np.arange(len(values) * factor) + 0.5) / factor - 0.5, 0, len(values) - 1)
    left = np.minimum(positions.astype(np.int64), len(values) - 1)
    right = np.minimum(left + 1, len(values) - 1)
    share = (positions - left)[:, None]
    result: Array = values[left] * (1 - share) + values[right] * share
    return result


def runs_above(signal: Array, thresholds: Array) -> Runs:
    """(T,), (K,) -> (P, 2): the maximal runs [first, last + 1) above each threshold, without repeats, by start."""
    mask = np.zeros((len(thresholds), len(signal) + 2), dtype=np.int8)
    mask[:, 1:-1] = signal[None, :] > thresholds[:, None]
    change = np.diff(mask, axis=1)
    first, last = np.nonzero(change == 1), np.nonzero(change == -1)
    return np.unique(np.stack([first[1], last[1]], axis=1), axis=0).astype(np.int64)


def watershed(signal: Array, thresholds: Array, tolerances: Sequence[float]) -> Runs:
    """(T,), (K,) -> (P, 2): basins [first, last + 1) above each threshold, joined with their neighbours; by start.

    From the start of each basin later ones are taken in as long as, up to the next one's start, the share of what is
    not above the threshold stays within a tolerance; and the same backwards from each end. A tolerance of 0 leaves the
    runs as they are. Source: temporal actionness grouping (Zhao et al., SSN, ICCV 2017), as its public code does it.
    """
    found = [np.zeros((0, 2), dtype=np.int64)]
    for threshold in thresholds:
        above = signal > threshold
        basins = runs_above(signal, np.array([threshold]))
        if len(basins) == 0:
            continue
        below = np.concatenate([[0], np.cumsum(~above)])
        found += [_joined(basins, below, tolerance) for tolerance in tolerances]
    return np.unique(np.concatenate(found), axis=0)


def _joined(basins: Runs, below: NDArray[np.int64], tolerance: float) -> Runs:
    """Basins (K, 2) and the count of positions below the threshold (T + 1,) -> boxes (2 K, 2), forwards, backwards."""
    start, end = basins[:, 0], basins[:, 1]
    order, last = np.arange(len(basins)), len(basins) - 1
    # Rounded, so that a share of exactly the tolerance counts as within it.
    forwards, backwards = (np.round(below[at] - tolerance * at, 9) for at in (start, end))
    stops = (forwards[None, :] > forwards[:, None]) & (order[None, :] > order[:, None])
    until = np.where(stops.any(axis=1), stops.argmax(axis=1) - 1, last)
    stops = (backwards[None, :] < backwards[:, None]) & (order[None, :] < order[:, None])
    since = np.where(stops.any(axis=1), last - stops[:, ::-1].argmax(axis=1) + 1, 0)
    return np.concatenate([np.stack([start, end[until]], axis=1), np.stack([start[since], end], axis=1)])


def outer_inner(
    signal: Array, runs: Runs, inflation: float, outer_weight: float, inner: Literal["mean", "max"] = "mean"
) -> Array:
    """(T,), (P, 2) -> (P,): what is inside less `outer_weight` times the mean of both rings (AutoLoc, ECCV 2018).

    Inside counts the `mean` or the `max`. A ring is `inflation` of the run's length, at least one position, cut at the
    ends of the signal; where nothing is left outside, the outer mean is 0.
    """
    if len(runs) == 0:
        return np.zeros(0)
    total = np.concatenate([[0.0], np.cumsum(signal)])
    start, end = runs[:, 0], runs[:, 1]
    length = end - start
    ring = np.maximum(1, (inflation * length).astype(np.int64)) if inflation > 0 else np.zeros_like(length)
    low, high = np.maximum(start - ring, 0), np.minimum(end + ring, len(signal))
    inside = total[end] - total[start]
    outside = (high - low) - length
    outer = (total[high] - total[low] - inside) / np.maximum(outside, 1)
    best: Array = inside / length
    if inner == "max":
        best = np.maximum.reduceat(np.append(signal, -np.inf), runs.reshape(-1))[::2]
    result: Array = best - outer_weight * np.where(outside > 0, outer, 0.0)
    return result
