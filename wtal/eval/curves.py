"""Precision-recall curves of every class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wtal.data.segments import Segment
from wtal.eval.columns import Floats
from wtal.eval.judge import Annotated, Detected, JudgedRanking, judge
from wtal.eval.precision import make_monotone, ordinals
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, find_protocol
from wtal.eval.thresholds import check_tious


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """At each of T true positives, best score first: ascending recall (T,), and precision (T,) as averaged in AP."""

    recall: Floats
    precision: Floats
    annotations: int

    @property
    def ap(self) -> float:
        """Average precision, the area under the curve."""
        return float(self.precision.sum() / self.annotations)


def precision_recall(
    annotations: Annotated,
    detections: Detected,
    tious: Sequence[float],
    protocol: str = DEFAULT_PROTOCOL,
    ambiguous: Mapping[str, Sequence[Segment]] | None = None,
    ties: str = INPUT,
) -> dict[str, tuple[PrecisionRecallCurve, ...]]:
    """Compute class -> its curve at each threshold; the parameters are those of `evaluate_detections`.

    Raises:
        UsageError: as there.
    """
    thresholds = check_tious(tious)
    return curves(judge(annotations, detections, thresholds, find_protocol(protocol, ties), ambiguous or {}))


def curves(judged: JudgedRanking) -> dict[str, tuple[PrecisionRecallCurve, ...]]:
    """Return class -> its curve at each judged threshold."""
    ranking = judged.ranking
    segment, hits = ranking.segment, ordinals(ranking.segment)
    precision = hits / (hits + ranking.false_before())
    if ranking.interpolated:
        make_monotone(precision, segment)
    truth = np.bincount(ranking.truth[0], minlength=ranking.classes)
    ends = np.searchsorted(segment, np.arange(ranking.thresholds * ranking.classes + 1))

    def curve(k: int, label: int) -> PrecisionRecallCurve:
        stretch = slice(*ends[k * ranking.classes + label :][:2].tolist())
        return PrecisionRecallCurve(hits[stretch] / truth[label], precision[stretch], int(truth[label]))

    return {
        name: tuple(curve(k, label) for k in range(ranking.thresholds)) for label, name in enumerate(judged.classes)
    }
