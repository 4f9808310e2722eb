"""Judge detections against annotations: a ranking of true and false positives, by the rules of a protocol.

Conventions. Segments are half-open and in seconds, or in whole snippets if the protocol rounds. N detections are ranked
by class, then by descending score; M annotations are in the order of the input; T is the number of true positives over
all K thresholds. Videos and classes are numbered in the order of their names. Index arrays are named after their
target: `detection` is an index among the N, `annotation` among the M, `threshold` among the K.

The protocols, with the sources of their rules, are in `wtal.eval.protocols`; the matching of all videos, classes and
thresholds at once is explained in `wtal.eval.matching`, average precision in `wtal.eval.precision`. For naive versions
of the definitions, as one loop over detections or annotations, see `official`, `kit` and `rounded` in
`tests/eval/test_protocols.py` and `plain_ap` in `tests/eval/test_mean_ap.py`; the tests compare this module with them.

References: F. Caba Heilbron et al., ActivityNet (CVPR 2015), and H. Idrees et al., The THUMOS challenge (CVIU 2017),
for mean average precision over temporal IoU; D. Gale, L. Shapley, College admissions (1962), for the matching.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from wtal.data.names import look_alike
from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError
from wtal.eval.columns import UNKNOWN, Columns, Ints, ScoredColumns, codes, columns, scored_columns, stable_order
from wtal.eval.matching import Pairs, find_pairs, settle
from wtal.eval.precision import Ranking
from wtal.eval.protocols import Protocol
from wtal.eval.script_ties import script_pairs, script_preference, script_ranking

Annotated = Mapping[str, Sequence[Annotation]]
Detected = Mapping[str, Sequence[Detection]]
Ranges = Mapping[str, Sequence[Segment]]
Mask = NDArray[np.bool_]
Hits = tuple[Ints, Ints]

_PAIRS_TOGETHER = 1 << 22
"""Maximum of pairs times thresholds that are matched together, to bound memory."""

_NAMED = 3
"""Maximum number of videos missing from the ground truth that are named."""

_LEAST_OVERLAP = np.nextafter(0.0, 1.0)
"""The smallest overlap above 0."""


@dataclass(frozen=True)
class JudgedRanking:
    """A ranking of `detections` (N,), judged against `truth` (M,); `classes` and `videos` name the codes of both.

    Times are in the unit of judgement. `taken` (T,) is the annotation matched by each of the ranking's true positives.
    `ignored`, `strangers`, `remarks`, `strange`: as in `wtal.eval.Evaluation`.
    """

    ranking: Ranking
    detections: ScoredColumns
    truth: Columns
    taken: Ints
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    ignored: dict[str, int]
    strangers: int
    remarks: tuple[str, ...]
    strange: dict[str, str | None]


def judge(
    annotations: Annotated,
    detections: Detected,
    tious: Sequence[float],
    protocol: Protocol,
    ambiguous: Ranges,
    videos: Iterable[str] = (),
) -> JudgedRanking:
    """Judge each detection (seconds, by video id) a true or a false positive at each threshold.

    `ambiguous` are ranges that annotators could not decide. `videos` are additional ids to get codes.

    Raises:
        UsageError: when there is no annotation, or a score is not finite.
    """
    classes = sorted({annotation.label for annotation in chain.from_iterable(annotations.values())})
    if not classes:
        raise UsageError("there is no annotation to score against; choose a subset with segments")
    names = sorted({*annotations, *detections, *videos})
    video_codes, label_codes = codes(names), codes(classes)
    truth = columns(annotations, video_codes, label_codes)
    unranked = scored_columns(detections, video_codes, label_codes)
    _check_scores(unranked)
    ignored = _unknown_labels(unranked, detections)
    unranked = unranked.take(unranked.label != UNKNOWN)
    outside = ~_among(unranked.video, [video_codes[name] for name in annotations])
    strange = [names[code] for code in np.unique(unranked.video[outside])[:_NAMED].tolist()]
    if protocol.annotated_videos_only:
        unranked = unranked.take(_among(unranked.video, truth.video))
    truth = replace(truth, times=protocol.times(truth.times))
    ranked = _ranked(replace(unranked, times=protocol.times(unranked.times)), protocol)
    touching = _touching(ranked, ambiguous, video_codes, protocol)  # (N,)
    remarks = _remarks(protocol, ambiguous, int(touching.sum()))
    if protocol.ambiguous == "dropped":
        ranked, touching = ranked.take(~touching), touching[~touching]
    hits, taken = _true_positives(ranked, truth, tious, protocol)
    ranking = Ranking(
        video=ranked.video,
        label=ranked.label,
        hits=hits,
        thresholds=len(tious),
        excused=touching if touching.any() else None,  # not counted unless matched
        truth=(truth.label, truth.video),
        classes=len(classes),
        videos=len(names),
        interpolated=protocol.interpolated,
    )
    return JudgedRanking(
        ranking,
        ranked,
        truth,
        taken,
        tuple(classes),
        tuple(names),
        ignored,
        int(np.count_nonzero(outside)),
        remarks,
        {name: look_alike(name, annotations) for name in strange},
    )


def _check_scores(detections: ScoredColumns) -> None:
    infinite = detections.score[~np.isfinite(detections.score)]
    if len(infinite):
        raise UsageError(f"scores must be finite, got {infinite[0]}")


def _unknown_labels(columns: ScoredColumns, detections: Detected) -> dict[str, int]:
    """Count the detections of each label that is not a class; `columns` are their columns, in the same order."""
    unknown = np.flatnonzero(columns.label == UNKNOWN)
    if not len(unknown):
        return {}
    flat = list(chain.from_iterable(detections.values()))
    return dict(Counter(flat[index].label for index in unknown.tolist()))


def _among(values: Ints, members: Sequence[int] | Ints) -> Mask:
    """Codes (N,) -> mask (N,) of those among `members`."""
    members = np.asarray(members, np.intp)
    is_member = np.zeros(1 + max(values.max(initial=0), members.max(initial=0)), bool)
    is_member[members] = True
    return np.asarray(is_member[values])


def _ranked(detections: ScoredColumns, protocol: Protocol) -> ScoredColumns:
    """Sort by class, then by descending score, then in the protocol's order of equal scores."""
    if protocol.as_script:
        return detections.take(script_ranking(detections))
    if protocol.by_name:
        detections = detections.take(np.argsort(detections.video, kind="stable"))
    return detections.take(stable_order(-detections.score, detections.label))


def _touching(detections: ScoredColumns, ambiguous: Ranges, video_codes: Mapping[str, int], protocol: Protocol) -> Mask:
    """Mask (N,) of the detections that overlap an ambiguous range of their video, if the protocol uses these."""
    touching = np.zeros(len(detections), bool)
    if protocol.ambiguous == "ignored":
        return touching
    ranges = columns({name: ambiguous[name] for name in ambiguous if name in video_codes}, video_codes, None)
    ranges = replace(ranges, times=protocol.times(ranges.times))
    unlabelled = Columns(detections.video, np.zeros_like(detections.label), detections.times)
    touching[find_pairs(unlabelled, ranges, protocol.overlap, _LEAST_OVERLAP).detection] = True
    return touching


def _true_positives(
    detections: ScoredColumns, truth: Columns, tious: Sequence[float], protocol: Protocol
) -> tuple[Hits, Ints]:
    """N ranked detections, M annotations, K thresholds -> the T true positives and the annotation (T,) of each.

    A true positive is a threshold (T,) and a detection (T,); they are sorted by these.
    """
    if protocol.as_script:
        pairs = script_pairs(detections, truth, min(tious))
        pairs = pairs.take(script_preference(pairs, _preference(pairs, protocol), detections, truth))
    else:
        pairs = find_pairs(detections, truth, protocol.overlap, min(tious))
        pairs = pairs.take(_preference(pairs, protocol))
    column = np.array(tious)[:, None]  # (K, 1)
    together = max(1, _PAIRS_TOGETHER // max(1, len(pairs.overlap)))
    blocks = []
    for first in range(0, len(tious), together):
        block = column[first : first + together]  # (k, 1)
        # Candidates for a match: a row of the block and a pair that reaches its threshold, (Q,) each.
        row, pair = _nonzero(pairs.overlap > block if protocol.strict else pairs.overlap >= block)
        detection_key = row * len(detections) + pairs.detection[pair]
        annotation_key = row * len(truth) + pairs.annotation[pair]
        if protocol.turns == "detections":
            matched = settle(detection_key, annotation_key)
        else:
            matched = settle(annotation_key, detection_key)
        taken = np.full((len(block), len(detections)), UNKNOWN, np.int32)  # annotation of each detection
        taken.ravel()[detection_key[matched]] = pairs.annotation[pair[matched]]
        row, detection = _nonzero(taken != UNKNOWN)
        blocks.append((row + first, detection, taken[row, detection]))
    threshold, detection, annotation = (np.concatenate(values) for values in zip(*blocks, strict=True))
    return (threshold, detection), annotation


def _nonzero(mask: Mask) -> Hits:
    """(K, N) -> rows and columns of True, as in `numpy.nonzero`, but faster when there are few rows."""
    row = np.repeat(np.arange(len(mask)), np.count_nonzero(mask, axis=1))
    return row, np.flatnonzero(mask) - row * mask.shape[1]


def _preference(pairs: Pairs, protocol: Protocol) -> Ints:
    """Sort the P pairs by the choosing side, then by preference."""
    if protocol.turns == "annotations":
        return stable_order(pairs.detection, -pairs.overlap, pairs.annotation)
    # Pairs are sorted by detection: only those of a detection with several need sorting.
    repeated = pairs.detection[1:] == pairs.detection[:-1]
    several = np.flatnonzero(np.append(repeated, False) | np.insert(repeated, 0, False))
    annotation, overlap = pairs.annotation[several], pairs.overlap[several]
    later = annotation.max(initial=0) - annotation if protocol.later_wins else annotation
    keys = (annotation,) if protocol.choice == "first" else (later, -overlap)
    order = np.arange(len(pairs.detection))
    order[several] = several[stable_order(*keys, pairs.detection[several])]
    return order


def _remarks(protocol: Protocol, ambiguous: Ranges, touching: int) -> tuple[str, ...]:
    if protocol.ambiguous == "ignored":
        return ()
    if not any(ambiguous.values()):
        return ("the protocol disregards ambiguous ranges, and none are known: figures may be lower",)
    verb = "left out" if protocol.ambiguous == "dropped" else "not counted unless matched to an annotation"
    return (f"detections that touch an ambiguous range, {verb}: {touching}",) if touching else ()
