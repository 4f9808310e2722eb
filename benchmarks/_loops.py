"""What `localization` is measured against: one threshold, class and position after the other, as it is first written.

The same detections come of it, which the benchmark checks. Signals are given: both sides start from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Run = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Of both sides: thresholds, and what `LocalizeConfig` says of scores and suppression."""

    thresholds: Sequence[float]
    inflation: float
    outer_weight: float
    video_weight: float
    most: float


def localize_class(signal: Sequence[float], video_score: float, settings: Settings) -> list[tuple[int, int, float]]:
    """One class of one video, (T,) -> (first, last + 1, score) of what is kept, best first.

    As in the papers' code, a run above several thresholds is scored for each, and suppression takes out repeats.
    """
    found = []
    for threshold in settings.thresholds:
        for start, end in runs(signal, threshold):
            contrast = outer_inner(signal, (start, end), settings.inflation, settings.outer_weight)
            found.append((start, end, contrast + settings.video_weight * video_score))
    found.sort(key=lambda one: (-one[2], one[0], one[1]))
    kept: list[tuple[int, int, float]] = []
    for start, end, score in found:
        if all(tiou(start, end, first, last) <= settings.most for first, last, _ in kept):
            kept.append((start, end, score))
    return kept


def runs(signal: Sequence[float], threshold: float) -> list[Run]:
    """(T,) -> the runs [first, last + 1) above a threshold."""
    found, start = [], -1
    for position, value in enumerate(signal):
        if value > threshold:
            if start < 0:
                start = position
        elif start >= 0:
            found.append((start, position))
            start = -1
    return [*found, (start, len(signal))] if start >= 0 else found


def outer_inner(signal: Sequence[float], run: Run, inflation: float, outer_weight: float) -> float:
    """The mean inside a run less the weighted mean of what lies around it."""
    start, end = run
    ring = max(1, int(inflation * (end - start)))
    inside = sum(signal[start:end]) / (end - start)
    around = [*signal[max(0, start - ring) : start], *signal[end : end + ring]]
    return inside - outer_weight * (sum(around) / len(around) if around else 0.0)


def tiou(start: float, end: float, first: float, last: float) -> float:
    """Intersection over union of two runs."""
    both = min(end, last) - max(start, first)
    return both / (end - start + last - first - both) if both > 0 else 0.0
