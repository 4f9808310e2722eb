"""Class activations to detections: threshold, group, score by outer-inner contrast, suppress. No torch.

The steps are in `signals`, `proposals` and `suppression`, their settings in `config`. All classes of many videos take
each step together: the signals of a video's selected classes are G columns, laid end to end in `SignalColumns`, and
arrays of proposals or candidates name the column of each row.

Positions are on the activations' own time axis, upsampled by `upsample`; only `SnippetGrid` converts them to seconds.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.models.localization.config import FUSED, UNION, LocalizeConfig
from wtal.models.localization.proposals import (
    Runs,
    SignalColumns,
    contrast,
    crossings,
    distinct,
    grouped_runs,
    maximal_runs,
)
from wtal.models.localization.signals import Activations, Signals, class_scores, select_classes, signals_of
from wtal.models.localization.suppression import suppress
from wtal.registry import suggest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
VideoActivations = tuple[Activations, SnippetGrid]

_POSITIONS_TOGETHER = 1 << 17
"""Positions of all classes that are processed together: enough to be fast, few enough to stay in caches."""

_WIDENING = 4
"""Factor of `max_detections` that gives the proposals in the first try, and their growth in each further try."""


def localize(
    activations: Activations, grid: SnippetGrid, classes: tuple[str, ...], config: LocalizeConfig
) -> list[Detection]:
    """Return the detections of one video in seconds, best first; ties are in the order of classes and times.

    Raises:
        UsageError: when the head has no stream named `config.streams`.
    """
    return next(localize_many([(activations, grid)], classes, config))


def localize_many(
    videos: Iterable[VideoActivations], classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """Yield the detections of each video in turn, equal to those of `localize`, processing many videos at a time.

    Raises:
        UsageError: when the head has no stream named `config.streams`.
    """
    grids: list[SnippetGrid] = []
    sources: list[_StreamSignals] = []
    size = 0
    for activations, grid in videos:
        video_sources = _sources(activations, len(grids), config)
        grids.append(grid)
        sources += video_sources
        size += sum(source.signals.first.size for source in video_sources)
        if size >= _POSITIONS_TOGETHER:
            yield from _localize_together(grids, sources, classes, config)
            grids, sources, size = [], [], 0
    yield from _localize_together(grids, sources, classes, config)


@dataclass(frozen=True, slots=True)
class _StreamSignals:
    """One video in one stream, or in the streams' fused output, with the n classes to look for.

    `classes` and their `class_scores` (n,); `weight`, a factor of its detections' scores; `signals` of n columns.
    """

    video: int
    classes: list[int]
    class_scores: Floats
    weight: float
    signals: Signals


@dataclass(frozen=True, slots=True)
class _Proposals:
    """P proposals before suppression, in the order of columns (and thus of videos).

    `runs` (P, 2), upsampled positions in their own column; `scores`, `column` and `video`, (P,) each.
    """

    runs: Runs
    scores: Floats
    column: Ints
    video: Ints

    def take(self, rows: Ints) -> "_Proposals":
        """Select the proposals at `rows`, in ascending order."""
        return _Proposals(self.runs[rows], self.scores[rows], self.column[rows], self.video[rows])


@dataclass(frozen=True, slots=True)
class _Candidates:
    """P segments after suppression: `borders` (P, 2) in seconds, `scores`, `column` and `video`, (P,) each."""

    borders: Floats
    scores: Floats
    column: Ints
    video: Ints

    def take(self, rows: NDArray[Any]) -> "_Candidates":
        """Select the candidates at `rows`: indices, or a mask."""
        return _Candidates(self.borders[rows], self.scores[rows], self.column[rows], self.video[rows])

    @property
    def lasting(self) -> NDArray[np.bool_]:
        """Mask (P,) of the segments of positive length."""
        return np.asarray(self.borders[:, 1] > self.borders[:, 0])


def _sources(activations: Activations, video: int, config: LocalizeConfig) -> list[_StreamSignals]:
    """Prepare the sources of one video; a source without selected classes is left out."""
    if len(activations.cas) == 0:
        return []
    sources = []
    for stream, siblings, weight in _streams(activations, config):
        scores = class_scores(stream, config)
        classes = select_classes(scores, config)
        if classes:
            added = np.ones(len(classes)) if "score-one" in config.quirks else scores[classes].astype(np.float64)
            sources.append(_StreamSignals(video, classes, added, weight, signals_of(stream, siblings, classes, config)))
    return sources


def _streams(
    activations: Activations, config: LocalizeConfig
) -> list[tuple[Activations, Sequence[Activations], float]]:
    """List the inputs of one video (the fused output or streams), each with its sibling streams and its weight."""
    streams = activations.streams
    if config.streams == FUSED or (config.streams == UNION and not streams):
        return [(activations, (), 1.0)]
    if config.streams == UNION:
        return [
            (
                stream,
                [sibling for other, sibling in streams.items() if other != name],
                config.stream_weights.get(name, 1.0),
            )
            for name, stream in streams.items()
        ]
    if config.streams not in streams:
        choices = suggest(config.streams, (*streams, FUSED, UNION))
        raise UsageError(f"localize.streams: the head has no stream {config.streams!r}; {choices}")
    return [(streams[config.streams], (), 1.0)]


def _localize_together(
    grids: Sequence[SnippetGrid], sources: Sequence[_StreamSignals], classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """Yield the detections of each of V videos, given by their grids and sources."""
    if not sources:
        yield from ([] for _ in grids)
        return
    column_class = np.concatenate([np.array(source.classes) for source in sources])  # (G,)
    column_video = np.concatenate([np.full(len(source.classes), source.video) for source in sources])  # (G,)
    proposals = _proposals(sources, column_video, config)
    if config.suppression != "hard" or config.streams == UNION:
        candidates = _suppress(proposals, grids, config)
    else:
        candidates = _suppress_best_first(proposals, grids, config)
    candidates = _pool_streams(candidates, sources, column_video * len(classes) + column_class, config)
    yield from _detections(candidates, column_class, len(grids), classes, config)


def _proposals(sources: Sequence[_StreamSignals], column_video: Ints, config: LocalizeConfig) -> _Proposals:
    """Return the runs of all sources over all thresholds, scored by their contrast and their class's score."""
    columns = SignalColumns.of([source.signals.first for source in sources])
    scored_columns = columns
    if any(source.signals.scored is not source.signals.first for source in sources):
        scored_columns = SignalColumns.of([source.signals.scored for source in sources])
    if "zero-below" in config.quirks:
        runs, scores = _runs_scored_above_threshold(columns, scored_columns, config)
    else:
        runs = _all_runs(columns, sources, config)
        scores = _contrast(scored_columns, runs, config)
    column = columns.column(runs[:, 0])  # (P,)
    class_score = np.concatenate([source.class_scores for source in sources])  # (G,)
    scores = scores + config.video_weight * class_score[column]
    if config.video_power:
        # Python's power, one by one: numpy's may differ in the last bit.
        powers = [max(score, 0.0) ** config.video_power for score in class_score.tolist()]
        scores = scores * np.array(powers)[column]
    return _Proposals(runs - columns.first[column][:, None], scores, column, column_video[column])


def _all_runs(columns: SignalColumns, sources: Sequence[_StreamSignals], config: LocalizeConfig) -> Runs:
    """(P, 2) positions in `columns`: the distinct runs of the first and second signals that are long enough."""
    runs = _grouped(columns, _thresholds(config), config)
    second_signals = [source.signals.second for source in sources if source.signals.second is not None]
    if second_signals:
        thresholds = np.arange(config.second_start, config.second_stop - 1e-9, config.second_step)
        second_runs = _grouped(SignalColumns.of(second_signals), thresholds, config)
        runs = distinct(np.concatenate([runs, second_runs]))
    return runs[_long_enough(columns, runs, config)]


def _runs_scored_above_threshold(
    columns: SignalColumns, scored_columns: SignalColumns, config: LocalizeConfig
) -> tuple[Runs, Floats]:
    """(P, 2) positions in `columns`, a run once per threshold, and their contrasts (P,) above its threshold."""
    thresholds = _thresholds(config)
    *borders, level = crossings(columns, thresholds)  # level (P,): number of each run's threshold
    runs = np.stack(borders, axis=1)
    long_enough = _long_enough(columns, runs, config)
    runs, level = runs[long_enough], level[long_enough]
    scores = np.zeros(len(runs))
    for number, threshold in enumerate(thresholds):
        at_threshold = level == number
        scores[at_threshold] = _contrast(scored_columns.above(threshold), runs[at_threshold], config)
    return runs, scores


def _thresholds(config: LocalizeConfig) -> Floats:
    """Return the thresholds of the first signal (K,), ascending."""
    if config.thresholds:
        return np.unique(np.array(config.thresholds))
    return np.arange(config.threshold_start, config.threshold_stop - 1e-9, config.threshold_step)


def _grouped(columns: SignalColumns, thresholds: Floats, config: LocalizeConfig) -> Runs:
    if config.grouping == "watershed":
        return grouped_runs(columns, thresholds, config.tolerances)
    return maximal_runs(columns, thresholds)


def _long_enough(columns: SignalColumns, runs: Runs, config: LocalizeConfig) -> NDArray[np.bool_]:
    """(P, 2) -> mask (P,) of the runs that are long enough."""
    length = runs[:, 1] - runs[:, 0]
    if "lost-first" in config.quirks:
        return (length >= config.min_length) & ((length > 1) | ~np.isin(runs[:, 0], columns.first))
    return length >= config.min_length


def _contrast(scored_columns: SignalColumns, runs: Runs, config: LocalizeConfig) -> Floats:
    uneven, extra = "uneven-rings" in config.quirks, int("extra-snippet" in config.quirks)
    return contrast(scored_columns, runs, config.inflation, config.outer_weight, config.inner, uneven, extra)


def _suppress(proposals: _Proposals, grids: Sequence[SnippetGrid], config: LocalizeConfig) -> _Candidates:
    """Suppress proposals; return the survivors column by column, best first."""
    survivors = suppress(
        _seconds(proposals, grids, config),
        proposals.scores,
        proposals.column,
        config.suppression,
        config.nms_tiou,
        config.soft_sigma,
        config.max_detections,
        config.overlap,
        _added_length(proposals.video, grids, config),
        config.fusion_temperature,
    )
    column, video = proposals.column[survivors.indices], proposals.video[survivors.indices]
    return _Candidates(survivors.borders, survivors.scores, column, video)


def _suppress_best_first(proposals: _Proposals, grids: Sequence[SnippetGrid], config: LocalizeConfig) -> _Candidates:
    """Do the same by hard suppression, with only as many proposals as `max_detections` of each video require.

    A proposal's survival depends only on better ones. So the best proposals of each video are suppressed first, and
    again with more of them for the videos in which too few remain.
    """
    limits = np.searchsorted(proposals.video, np.arange(len(grids) + 1))  # (V + 1,) where each video's rows begin
    available = np.diff(limits)  # (V,)
    batches = [_Candidates(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    unfinished = np.flatnonzero(available)  # videos, ascending
    tried = _WIDENING * config.max_detections
    while len(unfinished):
        rows = [_highest(proposals.scores, limits[video], limits[video + 1], tried) for video in unfinished]
        candidates = _suppress(proposals.take(np.concatenate(rows)), grids, config)
        counts = np.bincount(candidates.video[candidates.lasting], minlength=len(grids))  # (V,)
        exhausted = np.array([len(video_rows) for video_rows in rows]) == available[unfinished]
        finished = (counts[unfinished] >= config.max_detections) | exhausted
        batches.append(candidates.take(np.isin(candidates.video, unfinished[finished])))
        unfinished, tried = unfinished[~finished], _WIDENING * tried
    candidates = _Candidates(
        np.concatenate([batch.borders for batch in batches]),
        np.concatenate([batch.scores for batch in batches]),
        np.concatenate([batch.column for batch in batches]),
        np.concatenate([batch.video for batch in batches]),
    )
    return candidates.take(np.argsort(candidates.column, kind="stable"))


def _highest(scores: Floats, low: int, high: int, count: int) -> Ints:
    """Return the ascending rows of the `count` highest of scores[low:high], including ties with the last of them."""
    if high - low <= count:
        return np.arange(low, high)
    video_scores = scores[low:high]
    return low + np.flatnonzero(video_scores >= np.partition(video_scores, -count)[-count])


def _seconds(proposals: _Proposals, grids: Sequence[SnippetGrid], config: LocalizeConfig) -> Floats:
    """Convert the runs of proposals, in the order of videos, to borders (P, 2) in seconds."""
    extra = int("extra-snippet" in config.quirks)
    positions = proposals.runs + np.array([0, extra])
    borders = np.empty(positions.shape)
    limits = np.searchsorted(proposals.video, np.arange(len(grids) + 1))
    for grid, low, high in zip(grids, limits, limits[1:], strict=False):
        clock = replace(grid, frames=grid.frames + math.ceil(grid.stride)) if extra else grid
        borders[low:high] = clock.seconds(positions[low:high].reshape(-1), config.upsample).reshape(-1, 2)
    return borders


def _added_length(video: Ints, grids: Sequence[SnippetGrid], config: LocalizeConfig) -> Floats | None:
    """Videos (P,) -> the seconds (P,) that suppression adds to lengths; None if it adds none."""
    if "plus-snippet" in config.quirks:
        return np.array([float(grid.period) for grid in grids])[video]
    return np.ones(len(video)) if "plus-second" in config.quirks else None


def _pool_streams(
    candidates: _Candidates, sources: Sequence[_StreamSignals], column_group: Ints, config: LocalizeConfig
) -> _Candidates:
    """Weight scores by their streams, and suppress again where several streams detect one class of a video.

    `column_group` (G,) numbers the video and class of each column; the result is in the order of these groups.
    """
    column_weight = np.concatenate([np.full(len(source.classes), source.weight) for source in sources])  # (G,)
    weighted = replace(candidates, scores=candidates.scores * column_weight[candidates.column])
    order = np.argsort(column_group[weighted.column], kind="stable")
    weighted = weighted.take(order)
    group = column_group[weighted.column]  # (P,)
    _, inverse, columns_of_group = np.unique(column_group, return_inverse=True, return_counts=True)
    shared = columns_of_group[inverse][weighted.column] > 1  # (P,)
    if not shared.any():
        return weighted
    pool = np.flatnonzero(shared)
    survivors = suppress(
        weighted.borders[pool], weighted.scores[pool], group[pool], "hard", config.union_tiou, overlap=config.overlap
    )
    rows = np.concatenate([np.flatnonzero(~shared), pool[survivors.indices]])
    return weighted.take(rows[np.argsort(group[rows], kind="stable")])


def _detections(
    candidates: _Candidates, column_class: Ints, videos: int, classes: tuple[str, ...], config: LocalizeConfig
) -> Iterator[list[Detection]]:
    """Yield the best candidates of each video, best first; `candidates` are in the order of videos and classes."""
    lasting = np.flatnonzero(candidates.lasting)
    ranked = candidates.take(lasting[np.lexsort((-candidates.scores[lasting], candidates.video[lasting]))])
    limits = np.searchsorted(ranked.video, np.arange(videos + 1))
    for low, high in pairwise(limits):
        best = ranked.take(np.arange(low, min(high, low + config.max_detections)))
        start, end = best.borders.T.tolist()
        rows = zip(start, end, column_class[best.column].tolist(), best.scores.tolist(), strict=True)
        yield [Detection(first, last, classes[index], score) for first, last, index, score in rows]
