"""Time intervals in seconds: annotations and detections."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Segment:
    """A half-open interval [start, end) in seconds; `start <= end`, both finite.

    Raises:
        ValueError: when a border is not finite or the end is before the start.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and self.start <= self.end):
            raise ValueError(f"a segment needs finite start <= end, got [{self.start}, {self.end}]")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Annotation(Segment):
    """Ground truth: a segment and its class."""

    label: str


@dataclass(frozen=True, slots=True)
class Detection(Segment):
    """Detected segment, its class, and a score (higher means more confident)."""

    label: str
    score: float


def tiou(first: Segment, second: Segment) -> float:
    """Temporal intersection over union, in [0, 1]; symmetric, and 1 if and only if the segments are equal."""
    if first.start == second.start and first.end == second.end:
        return 1.0
    intersection = max(0.0, min(first.end, second.end) - max(first.start, second.start))
    union = first.duration + second.duration - intersection
    # Two different segments can round to the same lengths: unequal ones stay below one.
    return min(intersection / union, math.nextafter(1.0, 0.0)) if union > 0 else 0.0


def as_array(segments: Sequence[Segment]) -> NDArray[np.float64]:
    """(N,) segments -> (N, 2) seconds."""
    return np.array([(s.start, s.end) for s in segments], dtype=np.float64).reshape(-1, 2)


def tiou_pairs(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2), (..., 2) seconds that broadcast -> (...) temporal intersection over union of each pair.

    Two equal segments of length 0 have 1.
    """
    start = np.maximum(first[..., 0], second[..., 0])
    end = np.minimum(first[..., 1], second[..., 1])
    intersection = np.clip(end - start, 0.0, None)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - intersection
    same = np.equal(first[..., 0], second[..., 0]).astype(np.float64)  # if neither has a length
    result: NDArray[np.float64] = np.divide(intersection, union, out=same, where=union > 0)
    return result


def tiou_matrix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2), (M, 2) seconds -> (N, M) temporal intersection over union, as in `tiou_pairs`."""
    return tiou_pairs(first[:, None], second[None, :])
