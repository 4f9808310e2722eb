"""Class activations to detections: threshold, group, score by outer-inner contrast, suppress. No torch.

The steps are in `signals`, `proposals` and `suppression`, and what they are told in `localize_config`. All classes of
many videos take each step together.

Positions count on the activations' own time axis, upsampled by `upsample`; `SnippetGrid` alone turns them into
seconds.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.models.localization.config import FUSED, UNION, LocalizeConfig
from wtal.models.localization.proposals import (
    Columns,
    Runs,
    contrast,
    crossings,
    distinct,
    grouped_runs,
    maximal_runs,
    outer_inner,
    runs_above,
    watershed,
)
from wtal.models.localization.signals import Activations, Signals, class_scores, select_classes, signals_of, upsample
from wtal.models.localization.suppression import nms, soft_nms, suppress

__all__ = [
    "Activations",
    "LocalizeConfig",
    "localize",
    "localize_many",
    "nms",
    "outer_inner",
    "runs_above",
    "select_classes",
    "soft_nms",
    "upsample",
    "watershed",
]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Video = tuple[Activations, SnippetGrid]

_AT_ONCE = 1 << 17
"""Positions of all classes that are looked at together: enough to be quick, few enough to stay in caches."""


def localize(
    activations: Activations, grid: SnippetGrid, classes: tuple[str, ...], config: LocalizeConfig
) -> list[Detection]:
    """Detections of one video in seconds, best first; ties keep the order of classes and times.

    Raises:
        UsageError: when the head has no stream of the name that `config.streams` wants.
    """
    return next(localize_many([(activations, grid)], classes, config))


def localize_many(
    videos: Iterable[Video], classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """The detections of each video in turn, as `localize` finds them, many videos at a time.

    Raises:
        UsageError: when the head has no stream of the name that `config.streams` wants.
    """
    grids: list[SnippetGrid] = []
    parts: list[_Part] = []
    size = 0
    for activations, grid in videos:
        found = _parts(activations, len(grids), config)
        grids.append(grid)
        parts += found
        size += sum(part.signals.first.size for part in found)
        if size >= _AT_ONCE:
            yield from _together(grids, parts, classes, config)
            grids, parts, size = [], [], 0
    yield from _together(grids, parts, classes, config)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is looked at of one video: all classes that are looked for in it, in one stream or in the common answer."""

    video: int
    classes: list[int]
    scores: Array
    weight: float
    signals: Signals


@dataclass(frozen=True, slots=True)
class _Found:
    """Segments in order of `column`s, best first: seconds (P, 2), scores (P,), and columns (P,)."""

    borders: Array
    scores: Array
    column: Ints


def _parts(activations: Activations, video: int, config: LocalizeConfig) -> list[_Part]:
    if len(activations.cas) == 0:
        return []
    parts = []
    for source, others, weight in _sources(activations, config):
        scores = class_scores(source, config)
        if kept := select_classes(scores, config):
            values = np.ones(len(kept)) if "score-one" in config.quirks else scores[kept].astype(np.float64)
            parts.append(_Part(video, kept, values, weight, signals_of(source, others, kept, config)))
    return parts


def _sources(
    activations: Activations, config: LocalizeConfig
) -> list[tuple[Activations, Sequence[Activations], float]]:
    """What is looked at alone, the streams beside it, and the weight of its scores."""
    streams = activations.streams
    if config.streams == FUSED or (config.streams == UNION and not streams):
        return [(activations, (), 1.0)]
    if config.streams == UNION:
        return [
            (one, [other for key, other in streams.items() if key != name], config.stream_weights.get(name, 1.0))
            for name, one in streams.items()
        ]
    if config.streams not in streams:
        names = ", ".join((*streams, FUSED, UNION))
        raise UsageError(
            f"the head has no answer of stream {config.streams!r} alone; localize.streams is one of {names}"
        )
    return [(streams[config.streams], (), 1.0)]


def _together(
    grids: Sequence[SnippetGrid], parts: Sequence[_Part], classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """Detections of each of the videos whose parts these are."""
    if not parts:
        yield from ([] for _ in grids)
        return
    video = np.concatenate([np.full(len(part.classes), part.video) for part in parts])
    label = np.concatenate([np.array(part.classes) for part in parts])
    found = _pooled(_suppressed(grids, parts, video, config), parts, video * len(classes) + label, config)
    yield from _detections(found, video[found.column], label[found.column], len(grids), classes, config)


def _suppressed(grids: Sequence[SnippetGrid], parts: Sequence[_Part], video: Ints, config: LocalizeConfig) -> _Found:
    """Of each column, what suppression leaves of its proposals."""
    class_score = np.concatenate([part.scores for part in parts])
    columns, runs, scores = _proposals(parts, config)
    column = columns.column(runs[:, 0])
    scores = scores + config.video_weight * class_score[column]
    if config.video_power:
        scores = scores * np.array([score**config.video_power for score in class_score.tolist()])[column]
    places = runs - columns.first[column][:, None]

    def suppressed(rows: Ints) -> _Found:
        at = video[column[rows]]
        kept = suppress(
            _seconds(places[rows], at, grids, config),
            scores[rows],
            column[rows],
            config.suppression,
            config.nms_tiou,
            config.soft_sigma,
            config.max_detections,
            config.overlap,
            _plus(grids, at, config),
        )
        return _Found(kept.borders, kept.scores, column[rows][kept.indices])

    if config.suppression != "hard" or config.streams == UNION:
        return suppressed(np.arange(len(scores)))
    limits = np.searchsorted(video[column], np.arange(len(grids) + 1))
    return _best_first(suppressed, scores, limits, video, config.max_detections)


def _best_first(suppressed: Callable[[Ints], _Found], scores: Array, limits: Ints, video: Ints, most: int) -> _Found:
    """Hard suppression where `most` of a video are wanted: its best proposals first, more where they are not enough.

    What becomes of a proposal hangs on better ones alone, so the rest need not be looked at. `limits`: (V + 1,) where
    the proposals of each video begin.
    """
    done: list[_Found] = []
    open_, looked_at = np.flatnonzero(np.diff(limits)), 4 * most
    while len(open_):
        rows = [_highest(scores, limits[one], limits[one + 1], looked_at) for one in open_]
        found = suppressed(np.concatenate(rows))
        at = video[found.column]
        real = found.borders[:, 1] > found.borders[:, 0]
        enough = np.bincount(at[real], minlength=len(limits))[open_] >= most
        enough |= np.array([len(some) for some in rows]) == np.diff(limits)[open_]
        ready = np.isin(at, open_[enough])
        done.append(_Found(found.borders[ready], found.scores[ready], found.column[ready]))
        open_, looked_at = open_[~enough], 4 * looked_at
    column = np.concatenate([np.zeros(0, dtype=np.int64), *(one.column for one in done)])
    borders = np.concatenate([np.zeros((0, 2)), *(one.borders for one in done)])
    values = np.concatenate([np.zeros(0), *(one.scores for one in done)])
    order = np.argsort(column, kind="stable")
    return _Found(borders[order], values[order], column[order])


def _highest(scores: Array, low: int, high: int, count: int) -> Ints:
    """The rows of the `count` highest of scores[low:high], and of those equal to the last of them; rising."""
    if high - low <= count:
        return np.arange(low, high)
    some = scores[low:high]
    return low + np.flatnonzero(some >= np.partition(some, -count)[-count])


def _proposals(parts: Sequence[_Part], config: LocalizeConfig) -> tuple[Columns, Runs, Array]:
    """The signals' columns; segments (P, 2) in them over all thresholds, in their order; their contrast (P,)."""
    columns = Columns.of([part.signals.first for part in parts])
    scored = columns
    if any(part.signals.scored is not part.signals.first for part in parts):
        scored = Columns.of([part.signals.scored for part in parts])
    thresholds = np.unique(np.array(config.thresholds))
    if not config.thresholds:
        thresholds = np.arange(config.threshold_start, config.threshold_stop - 1e-9, config.threshold_step)
    if "zero-below" in config.quirks:
        *borders, level = crossings(columns, thresholds)
        runs = np.stack(borders, axis=1)
        long = _long(columns, runs, config)
        runs, level = runs[long], level[long]
        scores = np.zeros(len(runs))
        for number, threshold in enumerate(thresholds):
            at = level == number
            scores[at] = _contrast(scored.above(threshold), runs[at], config)
        return columns, runs, scores
    runs = _grouped(columns, thresholds, config)
    more = [part.signals.second for part in parts if part.signals.second is not None]
    if more:
        thresholds = np.arange(config.second_start, config.second_stop - 1e-9, config.second_step)
        runs = distinct(np.concatenate([runs, _grouped(Columns.of(more), thresholds, config)]))
    runs = runs[_long(columns, runs, config)]
    return columns, runs, _contrast(scored, runs, config)


def _grouped(columns: Columns, thresholds: Array, config: LocalizeConfig) -> Runs:
    if config.grouping == "watershed":
        return grouped_runs(columns, thresholds, config.tolerances)
    return maximal_runs(columns, thresholds)


def _long(columns: Columns, runs: Runs, config: LocalizeConfig) -> NDArray[np.bool_]:
    """(P, 2) -> (P,) whether a run is long enough."""
    length = runs[:, 1] - runs[:, 0]
    if "lost-first" in config.quirks:
        return (length >= config.min_length) & ((length > 1) | ~np.isin(runs[:, 0], columns.first))
    return length >= config.min_length


def _contrast(scored: Columns, runs: Runs, config: LocalizeConfig) -> Array:
    uneven, extra = "uneven-rings" in config.quirks, int("extra-snippet" in config.quirks)
    return contrast(scored, runs, config.inflation, config.outer_weight, config.inner, uneven, extra)


def _seconds(places: Runs, video: Ints, grids: Sequence[SnippetGrid], config: LocalizeConfig) -> Array:
    """(P, 2) borders in their own columns, in order of videos -> (P, 2) seconds."""
    extra = int("extra-snippet" in config.quirks)
    places = places + np.array([0, extra])
    borders = np.empty(places.shape)
    limits = np.searchsorted(video, np.arange(len(grids) + 1))
    for grid, low, high in zip(grids, limits, limits[1:], strict=False):
        clock = replace(grid, frames=grid.frames + math.ceil(grid.stride)) if extra else grid
        borders[low:high] = clock.seconds(places[low:high].reshape(-1), config.upsample).reshape(-1, 2)
    return borders


def _plus(grids: Sequence[SnippetGrid], video: Ints, config: LocalizeConfig) -> Array | None:
    """(P,) seconds that suppression adds to lengths, where it does."""
    if "plus-snippet" in config.quirks:
        return np.array([float(grid.period) for grid in grids])[video]
    return np.ones(len(video)) if "plus-second" in config.quirks else None


def _pooled(found: _Found, parts: Sequence[_Part], classes: Ints, config: LocalizeConfig) -> _Found:
    """Scores weighted by their streams; what several streams found of one class (G,) in one video is pooled."""
    weight = np.concatenate([np.full(len(part.classes), part.weight) for part in parts])
    scores = found.scores * weight[found.column]
    group = classes[found.column]
    order = np.argsort(group, kind="stable")
    found = _Found(found.borders[order], scores[order], found.column[order])
    _, place, times = np.unique(classes, return_inverse=True, return_counts=True)
    shared = times[place][found.column] > 1
    if not shared.any():
        return found
    pool = np.flatnonzero(shared)
    kept = suppress(
        found.borders[pool], found.scores[pool], group[order][pool], "hard", config.union_tiou, overlap=config.overlap
    )
    rows = np.concatenate([np.flatnonzero(~shared), pool[kept.indices]])
    rows = rows[np.argsort(group[order][rows], kind="stable")]
    return _Found(found.borders[rows], found.scores[rows], found.column[rows])


def _detections(
    found: _Found, video: Ints, label: Ints, count: int, classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """Of each video the best, in their order; `found` is in order of videos and classes."""
    real = np.flatnonzero(found.borders[:, 1] > found.borders[:, 0])
    order = real[np.lexsort((-found.scores[real], video[real]))]
    limits = np.searchsorted(video[order], np.arange(count + 1))
    for low, high in pairwise(limits):
        best = order[low : min(high, low + config.max_detections)]
        start, end = found.borders[best].T.tolist()
        rows = zip(start, end, label[best].tolist(), found.scores[best].tolist(), strict=True)
        yield [Detection(first, last, classes[index], score) for first, last, index, score in rows]
