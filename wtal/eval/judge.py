"""Detections and annotations -> a ranking of true and false positives, by the rules of a protocol."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError
from wtal.eval.columns import UNKNOWN, Columns, Ints, ScoredColumns, codes, columns, scored_columns, stable_order
from wtal.eval.matching import Pairs, find_pairs, settle
from wtal.eval.precision import Ranking
from wtal.eval.protocols import Protocol

Annotated = Mapping[str, Sequence[Annotation]]
Detected = Mapping[str, Sequence[Detection]]
Ranges = Mapping[str, Sequence[Segment]]
Mask = NDArray[np.bool_]
Hits = tuple[Ints, Ints]

_AT_ONCE = 1 << 22
"""Pairs times thresholds that are settled together: it bounds the memory."""

_ANY = np.nextafter(0.0, 1.0)
"""The least overlap that there is."""


@dataclass(frozen=True)
class Judged:
    """A ranking of `found` (N,), judged against `truth` (M,); `classes` and `videos` name the codes of both.

    Times are in the unit that is judged in. `taken` (T,) is the annotation of each of the ranking's true positives.
    `ignored`, `strangers`, `remarks`: as in `wtal.eval.Evaluation`.
    """

    ranking: Ranking
    found: ScoredColumns
    truth: Columns
    taken: Ints
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    ignored: dict[str, int]
    strangers: int
    remarks: tuple[str, ...]


def judge(
    annotations: Annotated,
    detections: Detected,
    tious: Sequence[float],
    protocol: Protocol,
    ambiguous: Ranges,
    videos: Iterable[str] = (),
) -> Judged:
    """Call each detection (seconds, by video id) a true or a false positive at each threshold.

    `ambiguous` are ranges in which annotators could not tell. `videos` are further ids that shall have codes.

    Raises:
        UsageError: when there is no annotation, or a score is not finite.
    """
    classes = sorted({annotation.label for annotation in chain.from_iterable(annotations.values())})
    if not classes:
        raise UsageError("there is no annotation to score against: choose a subset that has segments")
    names = sorted({*annotations, *detections, *videos})
    video_codes, label_codes = codes(names), codes(classes)
    truth = columns(annotations, video_codes, label_codes)
    found = scored_columns(detections, video_codes, label_codes)
    _check_scores(found)
    ignored = _unknown_labels(found, detections)
    found = found.take(found.label != UNKNOWN)
    strangers = np.count_nonzero(~_among(found.video, [video_codes[name] for name in annotations]))
    if protocol.annotated_videos_only:
        found = found.take(_among(found.video, truth.video))
    truth = replace(truth, times=protocol.times(truth.times))
    found = _ranked(replace(found, times=protocol.times(found.times)), protocol)
    touched = _touching(found, ambiguous, video_codes, protocol)
    remarks = _remarks(protocol, ambiguous, int(touched.sum()))
    if protocol.ambiguous == "dropped":
        found, touched = found.take(~touched), touched[~touched]
    if protocol.snippets:
        remarks += _silent_classes(found, classes)
    hits, taken = _hits(found, truth, tious, protocol)
    excused = touched if touched.any() else None  # they do not count unless matched
    where, sizes = (truth.label, truth.video), (len(classes), len(names))
    ranking = Ranking(found.video, found.label, hits, len(tious), excused, where, *sizes, protocol.interpolated)
    return Judged(ranking, found, truth, taken, tuple(classes), tuple(names), ignored, int(strangers), remarks)


def _check_scores(found: ScoredColumns) -> None:
    wrong = found.score[~np.isfinite(found.score)]
    if len(wrong):
        raise UsageError(f"scores are finite, got {wrong[0]}")


def _unknown_labels(found: ScoredColumns, detections: Detected) -> dict[str, int]:
    """Label -> how many detections have it, of labels that are no class."""
    places = np.flatnonzero(found.label == UNKNOWN)
    if not len(places):
        return {}
    flat = list(chain.from_iterable(detections.values()))
    return dict(Counter(flat[place].label for place in places.tolist()))


def _among(values: Ints, wanted: Sequence[int] | Ints) -> Mask:
    """Codes (N,) -> (N,) whether each is one of those wanted."""
    wanted = np.asarray(wanted, np.intp)
    marked = np.zeros(1 + max(values.max(initial=0), wanted.max(initial=0)), bool)
    marked[wanted] = True
    return np.asarray(marked[values])


def _ranked(found: ScoredColumns, protocol: Protocol) -> ScoredColumns:
    """By class, then by descending score, then in the order that the protocol has for equal scores."""
    if protocol.by_name:
        found = found.take(np.argsort(found.video, kind="stable"))
    return found.take(stable_order(-found.score, found.label))


def _touching(found: ScoredColumns, ambiguous: Ranges, video_codes: Mapping[str, int], protocol: Protocol) -> Mask:
    """(N,) whether a detection overlaps an ambiguous range of its video, where the protocol asks for that."""
    touched = np.zeros(len(found), bool)
    if protocol.ambiguous == "ignored":
        return touched
    ranges = columns({name: ambiguous[name] for name in ambiguous if name in video_codes}, video_codes, None)
    ranges = replace(ranges, times=protocol.times(ranges.times))
    anything = Columns(found.video, np.zeros_like(found.label), found.times)
    touched[find_pairs(anything, ranges, protocol.overlap, _ANY).detection] = True
    return touched


def _hits(found: ScoredColumns, truth: Columns, tious: Sequence[float], protocol: Protocol) -> tuple[Hits, Ints]:
    """N ranked detections, M annotations, thresholds -> true positives, by place, and the annotation of each.

    Of a true positive there are the threshold and the detection.
    """
    pairs = find_pairs(found, truth, protocol.overlap, min(tious))
    pairs = pairs.take(_preference(pairs, protocol))
    thresholds = np.array(tious)[:, None]
    together = max(1, _AT_ONCE // max(1, len(pairs.overlap)))
    parts = []
    for first in range(0, len(tious), together):
        some = thresholds[first : first + together]
        row, place = _nonzero(pairs.overlap > some if protocol.strict else pairs.overlap >= some)
        sides = (row * len(found) + pairs.detection[place], row * len(truth) + pairs.annotation[place])
        settled = settle(*(sides if protocol.turns == "detections" else sides[::-1]))
        taken = np.full((len(some), len(found)), UNKNOWN, np.int32)
        taken.ravel()[sides[0][settled]] = pairs.annotation[place[settled]]
        row, place = _nonzero(taken != UNKNOWN)
        parts.append((row + first, place, taken[row, place]))
    threshold, place, annotation = (np.concatenate(side) for side in zip(*parts, strict=True))
    return (threshold, place), annotation


def _nonzero(mask: Mask) -> Hits:
    """(K, N) -> rows and columns of what is true, as `numpy.nonzero` has them, and sooner where the rows are few."""
    row = np.repeat(np.arange(len(mask)), np.count_nonzero(mask, axis=1))
    return row, np.flatnonzero(mask) - row * mask.shape[1]


def _preference(pairs: Pairs, protocol: Protocol) -> Ints:
    """The order of the pairs: by who chooses, then by what is preferred."""
    if protocol.turns == "annotations":
        return stable_order(pairs.detection, -pairs.overlap, pairs.annotation)
    # Pairs come by detection: only those of a detection that has several are to be put in order.
    again = pairs.detection[1:] == pairs.detection[:-1]
    several = np.flatnonzero(np.append(again, False) | np.insert(again, 0, False))
    annotation, overlap = pairs.annotation[several], pairs.overlap[several]
    later = annotation.max(initial=0) - annotation if protocol.later_wins else annotation
    keys = (annotation,) if protocol.choice == "first" else (later, -overlap)
    order = np.arange(len(pairs.detection))
    order[several] = several[stable_order(*keys, pairs.detection[several])]
    return order


def _remarks(protocol: Protocol, ambiguous: Ranges, touched: int) -> tuple[str, ...]:
    if protocol.ambiguous == "ignored":
        return ()
    if not any(ambiguous.values()):
        return ("the protocol leaves ambiguous ranges out of account, and none are known: figures may be lower",)
    verb = "left out" if protocol.ambiguous == "dropped" else "not counted where no annotation took them"
    return (f"detections that touch an ambiguous range, {verb}: {touched}",) if touched else ()


def _silent_classes(found: ScoredColumns, classes: Sequence[str]) -> tuple[str, ...]:
    silent = [label for i, label in enumerate(classes) if not np.any(found.label == i)]
    if not silent:
        return ()
    return (f"classes without a detection: {len(silent)} (first: {silent[0]!r}); the original would report mAP 0",)
