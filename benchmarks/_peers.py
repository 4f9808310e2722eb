"""The judge's peers, independent implementations: data frames, as in the official evaluator, and plain loops.

Both return ActivityNet's average precision of every class at every threshold, {class: [AP, ...]}.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wtal.data.segments import Annotation, Detection

Truth = Mapping[str, Sequence[Annotation]]
Detections = Mapping[str, Sequence[Detection]]
Precision = dict[str, list[float]]


def plain_loops(truth: Truth, detections: Detections, tious: Sequence[float]) -> Precision:
    """Match each detection, by descending score, with its video's annotations, per class and threshold."""
    annotations: dict[str, dict[str, list[Annotation]]] = {}
    for video, segments in truth.items():
        for segment in segments:
            annotations.setdefault(segment.label, {}).setdefault(video, []).append(segment)
    pairs: dict[str, list[tuple[str, Detection]]] = {label: [] for label in annotations}
    for video, segments in detections.items():
        for detection in segments:
            if detection.label in pairs:
                pairs[detection.label].append((video, detection))
    return {label: _class_in_loops(annotations[label], pairs[label], tious) for label in annotations}


def _class_in_loops(
    truth: Mapping[str, Sequence[Annotation]], detections: list[tuple[str, Detection]], tious: Sequence[float]
) -> list[float]:
    ranked = sorted(detections, key=lambda pair: -pair[1].score)
    count = sum(map(len, truth.values()))
    return [area(hits_in_loops(truth, ranked, tiou), count) for tiou in tious]


def hits_in_loops(
    truth: Mapping[str, Sequence[Annotation]], ranked: Sequence[tuple[str, Detection]], tiou: float
) -> list[bool]:
    """True positives among the detections of a class, best first, given its annotations by video."""
    taken: set[tuple[str, int]] = set()
    hits = []
    for video, detection in ranked:
        best, choice = 0.0, None
        for i, annotation in enumerate(truth.get(video, ())):
            shared = min(annotation.end, detection.end) - max(annotation.start, detection.start)
            if shared > 0 and (video, i) not in taken:
                union = (annotation.end - annotation.start) + (detection.end - detection.start) - shared
                if shared / union >= max(tiou, best):
                    best, choice = shared / union, i
        hits.append(choice is not None)
        if choice is not None:
            taken.add((video, choice))
    return hits


def area(flags: Sequence[bool], positives: int) -> float:
    """Interpolated average precision of a ranking."""
    precision, count = [], 0
    for rank, hit in enumerate(flags, 1):
        count += hit
        precision.append(count / rank)
    best, total = 0.0, 0.0
    for value, hit in zip(reversed(precision), reversed(flags), strict=True):
        best = max(best, value)
        total += best if hit else 0.0
    return total / positives


def frames(truth: Truth, detections: Detections) -> tuple[Any, Any]:
    """Annotations and detections as the data frames of the official evaluator."""
    import pandas as pd

    rows = [(v, a.start, a.end, a.label) for v, segments in truth.items() for a in segments]
    detection_rows = [(v, d.start, d.end, d.label, d.score) for v, segments in detections.items() for d in segments]
    names = ["video-id", "t-start", "t-end", "label"]
    return pd.DataFrame(rows, columns=names), pd.DataFrame(detection_rows, columns=[*names, "score"])


def data_frames(truth: Any, detections: Any, tious: Sequence[float]) -> Precision:
    """Follow the official order: group by class, iterate over detections, group by video, look up each candidate."""
    by_label, detections_by_label = truth.groupby("label"), detections.groupby("label")
    return {
        label: _class_in_frames(
            by_label.get_group(label).reset_index(drop=True),
            detections_by_label.get_group(label).reset_index(drop=True),
            np.asarray(tious),
        )
        if label in detections_by_label.groups
        else [0.0] * len(tious)
        for label in by_label.groups
    }


def _class_in_frames(truth: Any, detections: Any, tious: Any) -> list[float]:
    order = detections["score"].values.argsort()[::-1]
    detections = detections.loc[order].reset_index(drop=True)
    lock = np.full((len(tious), len(truth)), -1.0)
    hits, misses = np.zeros((2, len(tious), len(detections)))
    by_video = truth.groupby("video-id")
    for i, row in detections.iterrows():
        try:
            annotations = by_video.get_group(row["video-id"])
        except KeyError:
            misses[:, i] = 1
            continue
        annotations = annotations.reset_index()
        overlaps = _tiou(row[["t-start", "t-end"]].values, annotations[["t-start", "t-end"]].values)
        ranked = overlaps.argsort()[::-1]
        for k, tiou in enumerate(tious):
            for j in ranked:
                if overlaps[j] < tiou:
                    misses[k, i] = 1
                    break
                if lock[k, annotations.loc[j]["index"]] >= 0:
                    continue
                hits[k, i] = 1
                lock[k, annotations.loc[j]["index"]] = i
                break
            if not hits[k, i] and not misses[k, i]:
                misses[k, i] = 1
    hits, misses = np.cumsum(hits, axis=1), np.cumsum(misses, axis=1)
    pairs = zip(hits / (hits + misses), hits / len(truth), strict=True)
    return [_interpolated(precision, recall) for precision, recall in pairs]


def _tiou(segment: Any, others: Any) -> Any:
    shared = (np.minimum(segment[1], others[:, 1]) - np.maximum(segment[0], others[:, 0])).clip(0)
    union = (others[:, 1] - others[:, 0]) + (segment[1] - segment[0]) - shared
    return shared.astype(float) / union


def _interpolated(precision: Any, recall: Any) -> float:
    precision, recall = np.hstack([[0], precision, [0]]), np.hstack([[0], recall, [1]])
    for i in range(len(precision) - 1)[::-1]:
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))
