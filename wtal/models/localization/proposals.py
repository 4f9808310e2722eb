"""Proposals: segments of high values in signals over time. No torch.

Positions are on the signals' own axis. Many signals are searched in one pass: `SignalColumns` lays them end to end, and
runs are pairs of positions in that array.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Runs = Ints
"""(P, 2): [first, last + 1)."""
Inner = Literal["mean", "max", "total"]


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """G signals laid end to end, each with a position of -inf after it.

    `values`: (N,). `first`, `length`: (G,), start and length of each. `blocks`: (position, signals, length) of those
    from one array.
    """

    values: Floats
    first: Ints
    length: Ints
    blocks: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, signals: Sequence[Floats]) -> Self:
        """Lay out arrays (T, n), each with its own T: their n columns one after another."""
        shapes = [(signal.shape[1], len(signal)) for signal in signals]
        sizes = [count * (length + 1) for count, length in shapes]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        values = np.full(int(starts[-1]), -np.inf)
        blocks = tuple((int(start), *shape) for start, shape in zip(starts, shapes, strict=False))
        for signal, block in zip(signals, blocks, strict=True):
            _view(values, block)[:, :-1] = signal.T
        first = [start + np.arange(count) * (length + 1) for start, count, length in blocks]
        lengths = [np.full(count, length) for _, count, length in blocks]
        none = np.zeros(0, dtype=np.int64)
        return cls(values, np.concatenate([none, *first]), np.concatenate([none, *lengths]), blocks)

    def column(self, positions: Ints) -> Ints:
        """Positions (P,) -> (P,) the column of each."""
        return np.searchsorted(self.first, positions, side="right") - 1

    def above(self, threshold: float) -> Self:
        """Replace values that are not above the threshold by 0."""
        values = np.where(self.values > threshold, self.values, 0.0)
        return type(self)(values, self.first, self.length, self.blocks)

    def totals(self) -> Floats:
        """(N,): at each position, the sum of all earlier values in its column."""
        totals = np.zeros(len(self.values))
        for block in self.blocks:
            np.cumsum(_view(self.values, block)[:, :-1], axis=1, out=_view(totals, block)[:, 1:])
        return totals


def _view(values: Floats, block: tuple[int, int, int]) -> Floats:
    """(n, T + 1): the columns of one block, each with the position after it."""
    start, count, length = block
    return values[start : start + count * (length + 1)].reshape(count, length + 1)


def crossings(columns: SignalColumns, thresholds: Floats) -> tuple[Ints, Ints, NDArray[np.int16]]:
    """(K,) ascending thresholds -> the maximal runs above each: starts, ends, threshold numbers (P,), by start and end.

    A run begins where a signal rises past a threshold and ends where it next falls back; both follow from the number of
    thresholds below each position's value.
    """
    levels = np.searchsorted(thresholds, columns.values)
    change = np.diff(levels, prepend=0)  # the array ends below all thresholds, so `rises - 1` may wrap around to there
    rises, falls = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    starts, opened = _each(rises, levels[rises - 1], levels[rises])
    ends, closed = _each(falls, levels[falls], levels[falls - 1])
    paired = np.empty_like(starts)
    paired[np.argsort(opened, kind="stable")] = ends[np.argsort(closed, kind="stable")]
    return starts, paired, opened


def _each(positions: Ints, low: Ints, high: Ints) -> tuple[Ints, NDArray[np.int16]]:
    """Expand positions with the thresholds [low, high) crossed there to one row per crossing, highest first."""
    count = high - low
    before = np.cumsum(count) - count
    steps = np.arange(int(count.sum())) - np.repeat(before, count)
    return np.repeat(positions, count), (np.repeat(high, count) - 1 - steps).astype(np.int16)


def maximal_runs(columns: SignalColumns, thresholds: Floats) -> Runs:
    """Return the distinct runs above any of (K,) ascending thresholds, (P, 2), by start, then by end."""
    starts, ends, _ = crossings(columns, thresholds)
    # Repeats of a run are adjacent: runs with the same start are in order of length.
    new = np.ones(len(starts), dtype=bool)
    new[1:] = (starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1])
    return np.stack([starts[new], ends[new]], axis=1)


def grouped_runs(columns: SignalColumns, thresholds: Floats, tolerances: Sequence[float]) -> Runs:
    """(K,) ascending thresholds -> (P, 2): runs above each, joined with their neighbours, distinct and sorted.

    From the start of each run, later ones are joined as long as, up to the next one's start, the share not above the
    threshold stays within a tolerance; and the same backwards from each end. A tolerance of 0 leaves the runs
    unchanged. Source: temporal actionness grouping, a watershed (Zhao et al., SSN, ICCV 2017), as in its public code.
    """
    starts, ends, level = crossings(columns, thresholds)
    order = np.argsort(level, kind="stable")
    basins = np.stack([starts, ends], axis=1)[order]
    column = columns.column(basins[:, 0])  # (P,)
    group = level[order].astype(np.int64) * len(columns.first) + column  # (P,) number of the column and threshold
    position = basins - columns.first[column][:, None]  # (P, 2) in the column
    # Positions before a border that are in no basin are below the threshold.
    length = basins[:, 1] - basins[:, 0]
    until = np.cumsum(length)
    opens = np.searchsorted(group, group)
    covered = until - (until - length)[opens] if len(group) else until  # (P,) positions of basins up to each one's end
    joined = [np.zeros((0, 2), dtype=np.int64)]
    for tolerance in tolerances:
        # Rounded, so that a share of exactly the tolerance counts as within it.
        forwards = np.round(position[:, 0] - (covered - length) - tolerance * position[:, 0], 9)
        backwards = np.round(position[:, 1] - covered - tolerance * position[:, 1], 9)
        last = _reach(forwards, group)
        first = len(group) - 1 - _reach(-backwards[::-1], group[::-1])[::-1]
        joined.append(np.stack([basins[:, 0], basins[last, 1]], axis=1))
        joined.append(np.stack([basins[first, 0], basins[:, 1]], axis=1))
    return distinct(np.concatenate(joined))


def _reach(heights: Floats, group: Ints) -> Ints:
    """(P,) -> (P,): the last of the consecutive rows after each that are in its group and not above it."""
    last = np.arange(len(heights))
    going = last
    while len(going):
        after = last[going] + 1
        inside = after < len(heights)
        going, after = going[inside], after[inside]
        further = (group[after] == group[going]) & (heights[after] <= heights[going])
        going = going[further]
        last[going] += 1
    return last


def distinct(runs: Runs) -> Runs:
    """Remove repeats from (P, 2), and sort by start, then by end."""
    if len(runs) == 0:
        return runs
    width = int(runs.max()) + 1
    keys = np.unique(runs[:, 0] * width + runs[:, 1])
    return np.stack(np.divmod(keys, width), axis=1)


def contrast(
    columns: SignalColumns,
    runs: Runs,
    inflation: float,
    outer_weight: float,
    inner: Inner = "mean",
    uneven: bool = False,
    extra: int = 0,
) -> Floats:
    """(P, 2) -> (P,): inner value minus `outer_weight` times the mean of both rings (AutoLoc, ECCV 2018).

    The inner value is the `mean`, the `max` or the `total`. A ring is `inflation` of the run's length, at least one
    position, truncated at the ends of the signal; if nothing is left outside, the outer mean is 0. Code of BaS-Net and
    its followers: `uneven` rounds the ring before a run up and the one after it down, possibly to 0. Code of RSKP:
    `extra` more positions are inside, and as many at the signal's end are never outside.
    """
    if len(runs) == 0:
        return np.zeros(0)
    total = columns.totals()  # (N,)
    column = columns.column(runs[:, 0])  # (P,), like all that follows
    signal_start = columns.first[column]
    signal_end = signal_start + columns.length[column]
    start, end = runs[:, 0], np.minimum(runs[:, 1] + extra, signal_end)
    before, after = _rings(runs[:, 1] - runs[:, 0], inflation, uneven)
    outer_start = np.maximum(start - before, signal_start)
    outer_end = np.maximum(np.minimum(runs[:, 1] + extra + after, signal_end - extra), end)
    inside = total[end] - total[start]
    ring_length = (outer_end - outer_start) - (end - start)
    outer = (total[outer_end] - total[outer_start] - inside) / np.maximum(ring_length, 1)
    inner_value: Floats = inside if inner == "total" else inside / (end - start)
    if inner == "max":
        inner_value = np.maximum.reduceat(columns.values, np.stack([start, end], axis=1).reshape(-1))[::2]
    result: Floats = inner_value - outer_weight * np.where(ring_length > 0, outer, 0.0)
    return result


def _rings(length: Ints, inflation: float, uneven: bool) -> tuple[Ints, Ints]:
    """Lengths of runs (P,) -> lengths of the rings before and after them, (P,) each."""
    share = inflation * length
    if uneven:
        return np.ceil(share).astype(np.int64), share.astype(np.int64)
    ring = np.maximum(1, share.astype(np.int64)) if inflation > 0 else np.zeros_like(length)
    return ring, ring
