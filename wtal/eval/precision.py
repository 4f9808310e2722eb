"""Average precision of ranked detections, for all classes and thresholds at once, optionally with video weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """N detections by class, then by descending score, with their true positives at K thresholds.

    `video` and `label` are (N,): below `videos`, V, and `classes`, C. `hits` are the threshold and the index of every
    true positive, (T,) each, sorted by both. `excused` (N,) marks detections that do not count unless they are true
    positives; None if there are none. `truth` are the M annotations' labels and videos, (M,) each.
    """

    video: Ints
    label: Ints
    hits: tuple[Ints, Ints]
    thresholds: int
    excused: NDArray[np.bool_] | None
    truth: tuple[Ints, Ints]
    classes: int
    videos: int
    interpolated: bool

    def average_precision(self, weights: Ints | None = None) -> Floats:
        """Multiplicities of videos (V,), 1 by default -> average precision (K, C).

        A video of weight w is w videos with equal detections and annotations, ranked one after another. Classes without
        an annotation in the weighted videos have NaN.
        """
        detection, segment, before = self.hits[1], self.segment, self._before(weights)
        copy: Ints | int = 0
        if weights is not None:
            times = weights[self.video[detection]]
            row = np.repeat(np.arange(len(detection)), times)
            copy = np.arange(len(row)) - (np.cumsum(times) - times)[row]
            segment, before = segment[row], before[row]
        precision = ordinals(segment) / (before + copy + 1)
        return self.mean_precision(precision, segment, self._positives(weights))

    @property
    def segment(self) -> Ints:
        """Threshold and class of each true positive as one number, (T,), ascending."""
        threshold, detection = self.hits
        return threshold * self.classes + self.label[detection]

    def false_before(self) -> Ints:
        """Count the relevant false positives ranked before each true positive of its class, (T,)."""
        return self._before(None) + 1 - ordinals(self.segment)

    def mean_precision(self, precision: Floats, segment: Ints, positives: Floats) -> Floats:
        """Precision (T,) at true positives in runs of equal `segment`, annotations per class (C,) -> AP (K, C).

        Precision is made monotone in place if the ranking is interpolated. Classes without annotations have NaN.
        """
        if self.interpolated:
            make_monotone(precision, segment)
        total = np.bincount(segment, precision, self.thresholds * self.classes).reshape(-1, self.classes)
        return np.asarray(np.divide(total, positives, out=np.full(total.shape, np.nan), where=positives > 0))

    def _before(self, weights: Ints | None) -> Ints:
        """Count the relevant detections ranked before each true positive of its class, (T,)."""
        threshold, detection = self.hits
        first = np.searchsorted(self.label, np.arange(self.classes))[self.label[detection]]
        if weights is None and self.excused is None:
            return detection - first
        each = np.ones(len(self.video), np.intp) if weights is None else weights[self.video]
        if self.excused is None:
            return _running(each, detection) - _running(each, first)
        # Excused detections do not count, except those that are true positives themselves.
        count = np.where(self.excused, 0, each)
        matched = np.where(self.excused, each, 0)[detection]
        start = np.searchsorted(threshold * len(self.label) + detection, threshold * len(self.label) + first)
        everyone = np.arange(len(detection))
        before = _running(count, detection) - _running(count, first)
        return before + _running(matched, everyone) - _running(matched, start)

    def _positives(self, weights: Ints | None) -> Floats:
        labels, videos = self.truth
        return np.bincount(labels, None if weights is None else weights[videos], self.classes).astype(np.float64)


def _running(values: Ints, position: Ints) -> Ints:
    """Values (N,) and positions (T,) -> (T,) the sum of all values before each position."""
    return np.asarray((np.cumsum(values) - values)[position])


def ordinals(segment: Ints) -> Ints:
    """(T,) in runs of equal values -> (T,) the position of each in its run, from 1."""
    bounds = _bounds(segment)
    return np.asarray(np.arange(len(segment)) - np.repeat(bounds[:-1], np.diff(bounds)) + 1)


def make_monotone(precision: Floats, segment: Ints) -> None:
    """Replace each of (T,) values by the highest from it to the end of its run of equal `segment`, in place."""
    bounds = _bounds(segment)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        stretch = precision[first:last][::-1]
        np.maximum.accumulate(stretch, out=stretch)


def _bounds(segment: Ints) -> Ints:
    """Return the start of each run of equal values, and T; empty if T is 0."""
    return np.flatnonzero(np.diff(segment, prepend=-1, append=-1))
