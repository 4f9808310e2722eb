"""Proposals from signals over time: the segments that stand out of them. No torch.

Positions count on the signals' own axis. Many signals are searched in one go: `SignalColumns` lays them end to end, and
runs are pairs of positions in that row.
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

    `values`: (N,). `first`, `length`: (G,) where each begins and how long it is. `blocks`: (position, signals, length)
    of those that came in one array.
    """

    values: Floats
    first: Ints
    length: Ints
    blocks: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, signals: Sequence[Floats]) -> Self:
        """Lay out arrays (T, n), each with a T of its own: their n columns one after the other."""
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
        """Positions (P,) -> (P,) the column that each lies in."""
        return np.searchsorted(self.first, positions, side="right") - 1

    def above(self, threshold: float) -> Self:
        """Replace by 0 what is not above the threshold."""
        values = np.where(self.values > threshold, self.values, 0.0)
        return type(self)(values, self.first, self.length, self.blocks)

    def totals(self) -> Floats:
        """(N,): at each position the sum of what lies before it in its column."""
        totals = np.zeros(len(self.values))
        for block in self.blocks:
            np.cumsum(_view(self.values, block)[:, :-1], axis=1, out=_view(totals, block)[:, 1:])
        return totals


def _view(values: Floats, block: tuple[int, int, int]) -> Floats:
    """(n, T + 1): the columns of one block, each with the position after it."""
    start, count, length = block
    return values[start : start + count * (length + 1)].reshape(count, length + 1)


def crossings(columns: SignalColumns, thresholds: Floats) -> tuple[Ints, Ints, NDArray[np.int16]]:
    """(K,) rising thresholds -> the maximal runs above each: starts, ends and thresholds (P,), by start, then by end.

    A run begins wherever a signal rises past a threshold and ends where it next falls back: each position's number of
    thresholds below it says all there is to know.
    """
    levels = np.searchsorted(thresholds, columns.values)
    change = np.diff(levels, prepend=0)  # the row ends below all thresholds, so `rises - 1` may wrap round to there
    rises, falls = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    starts, opened = _each(rises, levels[rises - 1], levels[rises])
    ends, closed = _each(falls, levels[falls], levels[falls - 1])
    paired = np.empty_like(starts)
    paired[np.argsort(opened, kind="stable")] = ends[np.argsort(closed, kind="stable")]
    return starts, paired, opened


def _each(positions: Ints, low: Ints, high: Ints) -> tuple[Ints, NDArray[np.int16]]:
    """Positions, each with the thresholds [low, high) that are crossed there, highest first -> one row a crossing."""
    count = high - low
    before = np.cumsum(count) - count
    steps = np.arange(int(count.sum())) - np.repeat(before, count)
    return np.repeat(positions, count), (np.repeat(high, count) - 1 - steps).astype(np.int16)


def maximal_runs(columns: SignalColumns, thresholds: Floats) -> Runs:
    """The runs above any of (K,) rising thresholds, (P, 2), without repeats, by start, then by end."""
    starts, ends, _ = crossings(columns, thresholds)
    # The same run above several thresholds comes in a row: runs with one start only grow.
    new = np.ones(len(starts), dtype=bool)
    new[1:] = (starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1])
    return np.stack([starts[new], ends[new]], axis=1)


def grouped_runs(columns: SignalColumns, thresholds: Floats, tolerances: Sequence[float]) -> Runs:
    """`watershed` of many signals: (K,) rising thresholds -> (P, 2), without repeats, by start, then by end."""
    starts, ends, level = crossings(columns, thresholds)
    order = np.argsort(level, kind="stable")
    basins = np.stack([starts, ends], axis=1)[order]
    column = columns.column(basins[:, 0])  # (P,)
    group = level[order].astype(np.int64) * len(columns.first) + column  # (P,) one of each column and threshold
    position = basins - columns.first[column][:, None]  # (P, 2) in the column
    # Below the threshold lies what is before a border and in no basin.
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
    """(P,) -> (P,): the last of the rows after each that are of its group and not above it, without a gap."""
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
    """(P, 2) -> without repeats, by start, then by end."""
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
    """(P, 2) -> (P,): what is inside less `outer_weight` times the mean of both rings (AutoLoc, ECCV 2018).

    Inside counts the `mean`, the `max` or the `total`. A ring is `inflation` of the run's length, at least one
    position, cut at the ends of the signal; where nothing is left outside, the outer mean is 0. What the code of
    BaS-Net and its followers does: `uneven` rounds the ring before a run up and the one after it down, to none at
    worst. That of RSKP: inside are `extra` positions more, and that many at the signal's end are never outside.
    """
    if len(runs) == 0:
        return np.zeros(0)
    total = columns.totals()  # (N,)
    column = columns.column(runs[:, 0])  # (P,), as all that follows
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
    """Lengths of runs (P,) -> lengths of the rings before and after, (P,) each."""
    share = inflation * length
    if uneven:
        return np.ceil(share).astype(np.int64), share.astype(np.int64)
    ring = np.maximum(1, share.astype(np.int64)) if inflation > 0 else np.zeros_like(length)
    return ring, ring


def runs_above(signal: Floats, thresholds: Floats) -> Runs:
    """(T,), (K,) -> (P, 2): the maximal runs [first, last + 1) above each threshold, without repeats, by start."""
    return maximal_runs(SignalColumns.of([signal[:, None]]), np.sort(thresholds))


def watershed(signal: Floats, thresholds: Floats, tolerances: Sequence[float]) -> Runs:
    """(T,), (K,) -> (P, 2): basins [first, last + 1) above each threshold, joined with their neighbours; by start.

    From the start of each basin later ones are taken in as long as, up to the next one's start, the share of what is
    not above the threshold stays within a tolerance; and the same backwards from each end. A tolerance of 0 leaves the
    runs as they are. Source: temporal actionness grouping (Zhao et al., SSN, ICCV 2017), as its public code does it.
    """
    return grouped_runs(SignalColumns.of([signal[:, None]]), np.sort(thresholds), tolerances)


def outer_inner(signal: Floats, runs: Runs, inflation: float, outer_weight: float, inner: Inner = "mean") -> Floats:
    """(T,), (P, 2) -> (P,): `contrast` of one signal."""
    return contrast(SignalColumns.of([signal[:, None]]), runs, inflation, outer_weight, inner)
