"""Evaluation per video: average precision, false positives and missed segments.

Average precision of a video is that of all its detections in one ranking, whatever their class: a class that it does
not show costs as much as a wrong position. This is not a standard metric; it helps to select videos for inspection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Annotation, Detection, as_array, tiou_matrix
from wtal.eval.columns import Floats, stable_order
from wtal.eval.diagnosis.outcomes import OUTCOMES, outcomes
from wtal.eval.judge import Annotated, Detected, JudgedRanking, judge
from wtal.eval.precision import Ranking
from wtal.eval.protocols import DEFAULT_PROTOCOL, find_protocol


@dataclass(frozen=True)
class VideoEvaluation:
    """One video: AP over the thresholds (None without annotations), and the outcomes of its segments at one of them.

    `outcomes` (N,) are among `wtal.eval.diagnosis.outcomes.OUTCOMES`, for `detections` (N,) from the best score down.
    `recalled` (M,) marks the `annotations` matched to a detection.
    """

    ap: float | None
    annotations: tuple[Annotation, ...]
    recalled: tuple[bool, ...]
    detections: tuple[Detection, ...]
    outcomes: tuple[str, ...]

    @property
    def missed(self) -> tuple[Annotation, ...]:
        """Annotations not matched to any detection."""
        return tuple(annotation for annotation, taken in zip(self.annotations, self.recalled, strict=True) if not taken)

    @property
    def wrong(self) -> tuple[tuple[Detection, str], ...]:
        """False positives, best first, each with its kind."""
        pairs = zip(self.detections, self.outcomes, strict=True)
        return tuple((detection, kind) for detection, kind in pairs if kind not in ("true positive", "not counted"))


def judge_videos(
    annotations: Annotated, detections: Detected, tious: Sequence[float], tiou: float
) -> dict[str, VideoEvaluation]:
    """Judge each video in `annotations` by ActivityNet's rules: video id -> evaluation; segments are in seconds.

    Average precision is the mean over `tious`; outcomes are those at the threshold `tiou`. Detections of classes
    without annotations are left out.

    Raises:
        UsageError: when there is no annotation at all, or a score is not finite.
    """
    protocol = find_protocol(DEFAULT_PROTOCOL)
    annotated = {name: predicted for name, predicted in detections.items() if name in annotations}
    ap = _by_video(judge(annotations, annotated, tious, protocol, {}))
    judged = judge(annotations, annotated, (tiou,), protocol, {})
    kinds = outcomes(judged, (tiou,), protocol)[0]
    taken = np.zeros(len(judged.truth), bool)
    taken[judged.taken] = True
    rows = _rows(judged)
    evaluations, first = {}, 0
    for name, segments in annotations.items():
        last = first + len(segments)
        order = rows.get(name, np.zeros(0, np.intp))
        names = tuple(OUTCOMES[kind] for kind in kinds[order].tolist())
        flags = tuple(taken[first:last].tolist())
        evaluations[name] = VideoEvaluation(ap.get(name), tuple(segments), flags, _detections(judged, order), names)
        first = last
    return evaluations


def _by_video(judged: JudgedRanking) -> dict[str, float]:
    """Return video -> average precision of its single ranking, the mean over thresholds; for annotated videos."""
    mixed = _of_videos(judged.ranking, judged.detections.score, len(judged.videos))
    means = mixed.average_precision().mean(axis=0).tolist()
    return {name: mean for name, mean in zip(judged.videos, means, strict=True) if mean == mean}


def _of_videos(ranking: Ranking, score: Floats, videos: int) -> Ranking:
    """Convert a ranking by class to one by video, each of which is a class of its own."""
    order = stable_order(-score, ranking.video)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    threshold, hit = ranking.hits
    moved = stable_order(position[hit], threshold)
    return replace(
        ranking,
        video=ranking.video[order],
        label=ranking.video[order],
        hits=(threshold[moved], position[hit][moved]),
        truth=(ranking.truth[1], ranking.truth[1]),
        classes=videos,
    )


def _rows(judged: JudgedRanking) -> Mapping[str, NDArray[np.intp]]:
    """Return video -> indices of its detections, best first."""
    order = stable_order(-judged.detections.score, judged.detections.video)
    limits = np.searchsorted(judged.detections.video[order], np.arange(len(judged.videos) + 1))
    return {name: order[limits[i] : limits[i + 1]] for i, name in enumerate(judged.videos)}


def _detections(judged: JudgedRanking, order: NDArray[np.intp]) -> tuple[Detection, ...]:
    chosen = judged.detections.take(order)
    rows = zip(chosen.times.tolist(), chosen.label.tolist(), chosen.score.tolist(), strict=True)
    return tuple(Detection(start, end, judged.classes[label], score) for (start, end), label, score in rows)


def nearest(segment: Annotation | Detection, others: Sequence[Detection | Annotation], own: bool) -> tuple[float, str]:
    """Return the highest overlap with `others` of the segment's own class, or of other classes, and the class."""
    candidates = [candidate for candidate in others if (candidate.label == segment.label) == own]
    if not candidates:
        return 0.0, ""
    overlap = tiou_matrix(as_array([segment]), as_array(candidates))[0]
    best = int(overlap.argmax())
    return (float(overlap[best]), candidates[best].label) if overlap[best] > 0 else (0.0, "")
