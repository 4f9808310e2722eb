"""Error analysis of a detection file: its errors, their cost, and the annotations that they affect.

Three questions, by the rules of any protocol and at each of its thresholds:

- What are the false positives (`outcomes.py`), among the best-scored G, 2G, ... 10G detections of each class
  with G annotations, and among all; and what would mAP gain without each kind (`removal.py`)?
- How does precision depend on the kind of annotation (`characteristics.py`)? Average precision depends on the
  number of annotations, so buckets are compared by the normalized one (AP_N): precision is R N / (R N + FP), with
  recall R, false positives FP before the true one, and the same N for all, the mean number of annotations per class. A
  bucket counts its own annotations, detections matched to one of them, and all false positives.
- Which annotations are missed? `missed` are those matched by no detection; `late` those whose detection is at a rank
  where the normalized precision of its class is at most 0.05.

Source: H. Alwassel et al., Diagnosing Error in Temporal Action Detectors (ECCV 2018). Deviations from their program:
of equal overlaps, one with the same class decides; each of several thresholds is considered separately (theirs drops
from a bucket annotations matched to another one at a lower threshold); gains are in the protocol's own mAP, so that
they add up to it; their false negatives are `missed` and `late` together; N is not rounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Segment
from wtal.eval.columns import Floats, Ints
from wtal.eval.detection import Evaluation, evaluation_of
from wtal.eval.diagnosis.characteristics import Characteristic, characteristics
from wtal.eval.diagnosis.outcomes import ERRORS, OUTCOMES, by_rank, outcomes
from wtal.eval.diagnosis.removal import Removal, false_before, removal
from wtal.eval.judge import Annotated, Detected, JudgedRanking, judge
from wtal.eval.precision import ordinals
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, find_protocol
from wtal.eval.thresholds import check_tious, parse_tious, tiou_key

SLICES = 10
LATE = 0.05
"""Normalized precision up to which an annotation is late; the source's program uses it for false negatives."""


@dataclass(frozen=True)
class Bucket:
    """Similar annotations: their number, and fractions (K,) at each threshold, NaN without annotations."""

    name: str
    range: str
    annotations: int
    normalized: Floats
    missed: Floats
    late: Floats


@dataclass(frozen=True)
class Diagnosis:
    """Results at K thresholds; all but the counts are fractions.

    `counts` (K, 11, 7) are detections by slice of rank (see `by_rank`) and by index in `OUTCOMES`. `normalized` (K,) is
    mAP_N of all annotations, `missed` and `late` (K,) are their shares. `characteristics` is name -> buckets.
    """

    evaluation: Evaluation
    annotations: int
    counts: Ints
    removal: Removal
    normalized: Floats
    missed: Floats
    late: Floats
    characteristics: dict[str, tuple[Bucket, ...]]

    @property
    def tious(self) -> tuple[float, ...]:
        """Thresholds of the evaluation."""
        return self.evaluation.tious

    def among_best(self, times: int | None = None) -> Ints:
        """Count the outcomes (K, 7) of the best-scored `times` G detections of each class, or of all."""
        return np.asarray(self.counts[:, :times].sum(axis=1))

    def to_json(self) -> dict[str, Any]:
        """Convert everything to JSON types, by threshold."""
        return {
            **self.evaluation.to_json(),
            "annotations": self.annotations,
            "diagnosis": {tiou_key(tiou): self._at_threshold(k) for k, tiou in enumerate(self.tious)},
        }

    def _at_threshold(self, k: int) -> dict[str, Any]:
        cost = self.removal
        tops = {**{f"{times}G": self.among_best(times) for times in range(1, SLICES + 1)}, "all": self.among_best()}
        return {
            "mAP": float(cost.mean_ap[k]),
            "recall": float(cost.recall[k]),
            "detections": {name: _named(OUTCOMES, counts[k].tolist()) for name, counts in tops.items()},
            "gain_alone": _named(ERRORS, cost.alone[k].tolist()),
            "gain_shared": {**_named(ERRORS, cost.shared[k].tolist()), "missed": float(1 - cost.recall[k])},
            "mAP_N": float(self.normalized[k]),
            "missed": float(self.missed[k]),
            "late": float(self.late[k]),
            "by": {
                name: {b.name: _bucket_json(b, k) for b in buckets} for name, buckets in self.characteristics.items()
            },
        }


def diagnose_detections(
    annotations: Annotated,
    detections: Detected,
    tious: Sequence[float] | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    ambiguous: Mapping[str, Sequence[Segment]] | None = None,
    durations: Mapping[str, float | None] | None = None,
    buckets: str = "activitynet",
    ties: str = INPUT,
) -> Diagnosis:
    """Diagnose detections against annotations (seconds, by video id); parameters are those of `evaluate_detections`.

    `durations` are seconds by video id, None if unknown; `buckets` names a table of `characteristics`.

    Raises:
        UsageError: as in `evaluate_detections`, or when there is no such table.
    """
    rules = find_protocol(protocol, ties)
    thresholds = parse_tious(rules.tious) if tious is None else check_tious(tious)
    judged = judge(annotations, detections, thresholds, rules, ambiguous or {})
    return diagnosis_of(judged, thresholds, protocol, characteristics(annotations, durations or {}, buckets))


def diagnosis_of(
    judged: JudgedRanking, tious: Sequence[float], protocol: str, known: Sequence[Characteristic]
) -> Diagnosis:
    """Diagnose judged detections; the characteristics are those of their annotations, in the same order."""
    codes = outcomes(judged, tious, find_protocol(protocol))
    before = false_before(judged.ranking, codes)
    reference = _Reference.of(judged, before.sum(axis=0))
    normalized, missed, late = reference.figures(np.ones(len(judged.truth), bool))
    return Diagnosis(
        evaluation_of(judged, tious, protocol),
        len(judged.truth),
        by_rank(codes, judged, SLICES),
        removal(judged.ranking, before),
        normalized,
        missed,
        late,
        {characteristic.name: _buckets(reference, characteristic) for characteristic in known},
    )


@dataclass(frozen=True)
class _Reference:
    """The ranking, the number of false positives before each true one (T,), and a mask of late ones (T,)."""

    judged: JudgedRanking
    before: Ints
    late: NDArray[np.bool_]

    @classmethod
    def of(cls, judged: JudgedRanking, before: Ints) -> "_Reference":
        reference = cls(judged, before, np.zeros(len(before), bool))
        everything = np.arange(len(before))
        return replace(reference, late=reference.precision(everything, reference.positives(judged.truth.label)) <= LATE)

    def positives(self, labels: Ints) -> Floats:
        """Count the annotations of each class, (C,), from their labels."""
        return np.bincount(labels, minlength=self.judged.ranking.classes).astype(np.float64)

    def precision(self, chosen: Ints, positives: Floats) -> Floats:
        """Normalized precision at the `chosen` true positives, with `positives` annotations per class."""
        ranking, truth = self.judged.ranking, self.judged.truth
        segment = ranking.segment[chosen]
        recall = ordinals(segment) / positives[segment % ranking.classes] * (len(truth) / ranking.classes)
        return np.asarray(recall / (recall + self.before[chosen]))

    def figures(self, inside: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """Mask (M,) of annotations -> (K,), (K,), (K,): mAP_N, the share missed, and the share detected late."""
        ranking, count = self.judged.ranking, np.count_nonzero(inside)
        if not count:
            return (np.full(ranking.thresholds, np.nan),) * 3
        chosen = np.flatnonzero(inside[self.judged.taken])
        positives = self.positives(self.judged.truth.label[inside])
        by_class = ranking.mean_precision(self.precision(chosen, positives), ranking.segment[chosen], positives)
        threshold = ranking.hits[0]
        taken = np.bincount(threshold[chosen], minlength=ranking.thresholds)
        late = np.bincount(threshold[chosen[self.late[chosen]]], minlength=ranking.thresholds)
        return np.nanmean(by_class, axis=1), 1 - taken / count, late / count


def _buckets(reference: _Reference, characteristic: Characteristic) -> tuple[Bucket, ...]:
    masks = [characteristic.bucket == i for i in range(len(characteristic.names))]
    return tuple(
        Bucket(name, text, int(np.count_nonzero(inside)), *reference.figures(inside))
        for name, text, inside in zip(characteristic.names, characteristic.ranges, masks, strict=True)
    )


def _bucket_json(bucket: Bucket, k: int) -> dict[str, Any]:
    figures = {"mAP_N": bucket.normalized[k], "missed": bucket.missed[k], "late": bucket.late[k]}
    known = {name: float(value) for name, value in figures.items()} if bucket.annotations else {}
    return {"range": bucket.range, "annotations": bucket.annotations, **known}


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))
