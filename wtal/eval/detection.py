"""Mean average precision of detections, by ActivityNet's definition, which HACS and most papers use.

For each class, detections are taken by descending score. Each looks at the annotations of its video and class, best
temporal intersection over union (tIoU) first, and takes the first one that reaches the threshold and is still free: a
true positive. Otherwise it is a false positive, and so is one in a video that the ground truth does not know. Average
precision is the area under the precision-recall curve with precision made monotone from the right (all-points
interpolation). mAP is the mean over the classes that occur in the ground truth; a class without detections has 0.

Ties. Among equal scores the order of the input holds (videos as the mapping gives them, then the lists); among equal
tIoU the later annotation is taken first. The original sorts with an unstable algorithm, so that ties in its input may
come out differently: up to about 1e-5 of a class's AP where thousands of scores are tied.

Deviations from the original: a detection of a class that the ground truth does not know is counted and left out (the
original stops); where neither segment has a length, tIoU is 1 if they are equal, else 0 (the original divides by zero
and takes such a pair for a hit, wherever the two lie).

Source: Evaluation/eval_detection.py of https://github.com/activitynet/ActivityNet.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Annotation, Detection, as_array, tiou_matrix
from wtal.errors import UsageError

_MOST_THRESHOLDS = 1000

S = TypeVar("S", Annotation, Detection)


@dataclass(frozen=True)
class Evaluation:
    """What the judge found; all figures are fractions.

    `ap` is class -> threshold -> average precision, over the classes of the ground truth. `ignored` is label -> number
    of detections that were left out because the ground truth has no such class. `strangers` counts the detections in
    videos that the ground truth does not know: false positives all.
    """

    tious: tuple[float, ...]
    ap: dict[str, dict[float, float]]
    ignored: dict[str, int]
    strangers: int

    @property
    def mAP(self) -> dict[float, float]:  # noqa: N802 (the name that the field writes)
        """Threshold -> mean of the classes' average precision."""
        return {tiou: float(np.mean([by_tiou[tiou] for by_tiou in self.ap.values()])) for tiou in self.tious}

    @property
    def average(self) -> float:
        """Mean of mAP over the thresholds."""
        return float(np.mean(list(self.mAP.values())))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was left out or could surprise."""
        notes = []
        if self.ignored:
            names = ", ".join(repr(label) for label in sorted(self.ignored)[:3])
            count = sum(self.ignored.values())
            notes.append(f"detections of classes that the ground truth lacks, left out: {count} (first: {names})")
        if self.strangers:
            notes.append(f"detections in videos that the ground truth lacks, false positives: {self.strangers}")
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """`{"mAP": {"0.1": ..}, "average": .., "ap": {class: {"0.1": ..}}}`, in fractions."""
        return {
            "mAP": {tiou_key(tiou): value for tiou, value in self.mAP.items()},
            "average": self.average,
            "ap": {
                label: {tiou_key(tiou): value for tiou, value in by_tiou.items()} for label, by_tiou in self.ap.items()
            },
        }


def evaluate_detections(
    annotations: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    tious: Sequence[float],
) -> Evaluation:
    """Score detections against annotations: two mappings video id -> segments (seconds), thresholds -> `Evaluation`.

    Raises:
        UsageError: when there is no annotation, no threshold or a threshold outside (0, 1], or a score is not finite.
    """
    thresholds = _check_thresholds(tious)
    truth = _by_class(annotations)
    if not truth:
        raise UsageError("there is no annotation to score against: choose a subset that has segments")
    found = _by_class(detections)
    ap = {}
    for label in sorted(truth):
        values = _average_precision(truth[label], found.get(label, {}), np.array(thresholds))
        ap[label] = dict(zip(thresholds, values.tolist(), strict=True))
    ignored = {label: sum(map(len, videos.values())) for label, videos in found.items() if label not in truth}
    strangers = sum(len(f) for label in truth for video, f in found.get(label, {}).items() if video not in annotations)
    return Evaluation(thresholds, ap, ignored, strangers)


def parse_tious(text: str) -> tuple[float, ...]:
    """`0.5,0.75` or `0.1:0.9:0.1` (both ends included), or a mixture -> thresholds, exact to the written decimals.

    Raises:
        UsageError: when the text is malformed or a threshold is outside (0, 1].
    """
    try:
        return _check_thresholds([float(value) for part in text.split(",") for value in _range(part)])
    except (InvalidOperation, ValueError):
        raise UsageError(f"thresholds are written 0.5,0.75 or 0.1:0.9:0.1 (from:to:step), got {text!r}") from None


def tiou_key(tiou: float) -> str:
    """A threshold as a JSON key: `0.1`, `0.15`, `0.95`, whatever the rounding of its sums was."""
    return f"{tiou:.6g}"


def _range(part: str) -> list[Decimal]:
    first, *rest = (Decimal(value.strip()) for value in part.split(":"))
    if not rest:
        return [first]
    last, step = rest  # too many or too few values raise ValueError
    if not (step > 0 and first <= last and (last - first) / step < _MOST_THRESHOLDS):
        raise ValueError(part)
    return [first + i * step for i in range(int((last - first) / step) + 1)]


def _check_thresholds(tious: Sequence[float]) -> tuple[float, ...]:
    thresholds = tuple(float(tiou) for tiou in tious)
    if not thresholds or not all(0 < tiou <= 1 for tiou in thresholds):
        raise UsageError(f"thresholds of tIoU lie in (0, 1] and there is at least one, got {list(thresholds)}")
    return tuple(dict.fromkeys(thresholds))


def _by_class(videos: Mapping[str, Sequence[S]]) -> dict[str, dict[str, list[S]]]:
    """Label -> video id -> its segments, all in the order of the input."""
    classes: dict[str, dict[str, list[S]]] = {}
    for video, segments in videos.items():
        for segment in segments:
            classes.setdefault(segment.label, {}).setdefault(video, []).append(segment)
    return classes


def _average_precision(
    truth: Mapping[str, Sequence[Annotation]],
    found: Mapping[str, Sequence[Detection]],
    thresholds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Annotations and detections of one class, thresholds (K,) -> average precision (K,)."""
    scores = [np.array([detection.score for detection in found[video]]) for video in found]
    hits = [_match_video(truth.get(v, ()), found[v], s, thresholds) for v, s in zip(found, scores, strict=True)]
    if not hits:
        return np.zeros(len(thresholds))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _interpolated(np.concatenate(hits, axis=1)[:, order], sum(map(len, truth.values())))


def _match_video(
    truth: Sequence[Annotation],
    found: Sequence[Detection],
    scores: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """M annotations, N detections of one video and class, scores (N,), thresholds (K,) -> (K, N) true positives."""
    if not np.isfinite(scores).all():
        raise UsageError(f"scores are finite, got {next(score for score in scores if not math.isfinite(score))}")
    hits = np.zeros((len(thresholds), len(found)), dtype=bool)
    if not truth:
        return hits
    overlaps = tiou_matrix(as_array(found), as_array(truth)[::-1])  # reversed: the later annotation wins a tie
    free = np.ones((len(thresholds), len(truth)), dtype=bool)
    promising = overlaps.max(axis=1) >= thresholds.min()
    for i in np.argsort(-scores, kind="stable"):
        if not promising[i]:
            continue
        candidates = free & (overlaps[i] >= thresholds[:, None])
        hits[:, i] = candidates.any(axis=1)
        best = np.where(candidates, overlaps[i], -1.0).argmax(axis=1)
        free[hits[:, i], best[hits[:, i]]] = False
    return hits


def _interpolated(hits: NDArray[np.bool_], annotations: int) -> NDArray[np.float64]:
    """True positives (K, N) by descending score, number of annotations -> average precision (K,)."""
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.where(hits, envelope, 0.0).sum(axis=1) / annotations)
