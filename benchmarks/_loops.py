"""Peer of the benchmark `localization`: plain loops over thresholds, classes and positions, a first version's code.

They yield the same detections, which the benchmark checks. Both sides start from the same signals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Run = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Settings of both sides: thresholds, and the values of `LocalizeConfig` for scores and suppression."""

    thresholds: Sequence[float]
    inflation: float
    outer_weight: float
    video_weight: float
    nms_tiou: float


def localize_class(signal: Sequence[float], video_score: float, settings: Settings) -> list[tuple[int, int, float]]:
    """Localize proposal class of proposal video, (T,) -> (first, last + 1, score) of its detections, best first.

    As in the papers' code, a run above several thresholds is scored for each, and suppression removes repeats.
    """
    proposals = []
    for threshold in settings.thresholds:
        for start, end in runs(signal, threshold):
            contrast = outer_inner(signal, (start, end), settings.inflation, settings.outer_weight)
            proposals.append((start, end, contrast + settings.video_weight * video_score))
    proposals.sort(key=lambda proposal: (-proposal[2], proposal[0], proposal[1]))
    detections: list[tuple[int, int, float]] = []
    for start, end, score in proposals:
        if all(tiou(start, end, first, last) <= settings.nms_tiou for first, last, _ in detections):
            detections.append((start, end, score))
    return detections


def runs(signal: Sequence[float], threshold: float) -> list[Run]:
    """Runs [first, last + 1) above a threshold, from a signal (T,)."""
    intervals, start = [], -1
    for position, value in enumerate(signal):
        if value > threshold:
            if start < 0:
                start = position
        elif start >= 0:
            intervals.append((start, position))
            start = -1
    return [*intervals, (start, len(signal))] if start >= 0 else intervals


def outer_inner(signal: Sequence[float], run: Run, inflation: float, outer_weight: float) -> float:
    """Mean inside a run minus the weighted mean of its surroundings."""
    start, end = run
    ring = max(1, int(inflation * (end - start)))
    inside = sum(signal[start:end]) / (end - start)
    around = [*signal[max(0, start - ring) : start], *signal[end : end + ring]]
    return inside - outer_weight * (sum(around) / len(around) if around else 0.0)


def tiou(start: float, end: float, first: float, last: float) -> float:
    """Intersection over union of two runs."""
    both = min(end, last) - max(start, first)
    return both / (end - start + last - first - both) if both > 0 else 0.0
