"""Mean average precision of video-level scores, and the share of videos with a correct label among the best k.

For each class the videos are ranked by descending score, and average precision is over those that show it. A video
without a score for a class is not retrieved. Interpolated precision is ActivityNet's, the other is that of the
weakly-supervised papers. Equal scores stay in the order of the input. Labels that no video shows are left out.

Sources: Evaluation/eval_classification.py of https://github.com/activitynet/ActivityNet, classificationMAP.py of
https://github.com/sujoyp/wtalc-pytorch. Deviation: the former swaps recall and precision in its interpolation.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval.columns import codes
from wtal.eval.precision import Ranking

VideoScores = Mapping[str, Mapping[str, float]]
_BEST = (1, 3, 5)


@dataclass(frozen=True)
class LabelEvaluation:
    """`ap` is class -> average precision; `hit_at` is k -> share of labelled videos with a correct label among k."""

    ap: dict[str, float]
    hit_at: dict[int, float]

    @property
    def mAP(self) -> float:  # noqa: N802 (the name that the field writes)
        """Mean over the classes shown in any video."""
        return float(np.mean(list(self.ap.values())))

    def to_json(self) -> dict[str, Any]:
        """Convert to `{"mAP": .., "hit@": {"1": ..}, "ap": {class: ..}}`, in fractions."""
        return {"mAP": self.mAP, "hit@": {str(k): value for k, value in self.hit_at.items()}, "ap": self.ap}


def evaluate_labels(
    labels: Mapping[str, Collection[str]], scores: VideoScores, interpolated: bool = True
) -> LabelEvaluation:
    """Evaluate video-level scores (video id -> label -> score) against the labels by video id.

    Raises:
        UsageError: when no video has a label, or a score is not finite.
    """
    classes = sorted({label for video_labels in labels.values() for label in video_labels})
    if not classes:
        raise UsageError("no video has a label to score against; choose a subset with labels")
    ranking = _ranking(classes, labels, scores, interpolated)
    ap = dict(zip(classes, ranking.average_precision()[0].tolist(), strict=True))
    return LabelEvaluation(ap, {k: _hit_at(k, labels, scores) for k in _BEST})


def best_scores(detections: Mapping[str, Sequence[Detection]]) -> dict[str, dict[str, float]]:
    """Return video-level scores of detections: the highest of each label."""
    by_video: dict[str, dict[str, float]] = {}
    for video, segments in detections.items():
        best = by_video.setdefault(video, {})
        for detection in segments:
            best[detection.label] = max(detection.score, best.get(detection.label, detection.score))
    return by_video


def _ranking(
    classes: Sequence[str], labels: Mapping[str, Collection[str]], scores: VideoScores, interpolated: bool
) -> Ranking:
    video_codes, label_codes = codes(sorted({*labels, *scores})), codes(classes)
    rows = [
        (video_codes[video], label_codes[label], label in labels.get(video, ()))
        for video, by_label in scores.items()
        for label in by_label
        if label in label_codes
    ]
    score = np.array(
        [label_score for by_label in scores.values() for label, label_score in by_label.items() if label in label_codes]
    )
    if not np.isfinite(score).all():
        raise UsageError(f"scores must be finite, got {score[~np.isfinite(score)][0]}")
    table = np.array(rows, np.intp).reshape(-1, 3)
    video, label, is_shown = table[np.lexsort((-score, table[:, 1]))].T
    truth = np.array(
        [
            (label_codes[label], video_codes[name])
            for name, video_labels in labels.items()
            for label in set(video_labels)
        ]
    )
    hits, sizes = np.flatnonzero(is_shown), (len(classes), len(video_codes))
    return Ranking(video, label, (0 * hits, hits), 1, None, (truth[:, 0], truth[:, 1]), *sizes, interpolated)


def _hit_at(k: int, labels: Mapping[str, Collection[str]], scores: VideoScores) -> float:
    """Return the share of labelled videos with one of their labels among their k best."""
    labelled = {video: set(video_labels) for video, video_labels in labels.items() if video_labels}
    best = {video: sorted(scores.get(video, {}).items(), key=lambda pair: -pair[1])[:k] for video in labelled}
    return sum(any(label in labelled[video] for label, _ in best[video]) for video in labelled) / len(labelled)
