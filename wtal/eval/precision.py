"""Average precision of ranked detections, for all classes and thresholds at once, with or without weights of videos."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """N detections by class, then by descending score, and which of them are true positives at K thresholds.

    `video` and `label` are (N,): below `videos`, V, and `classes`, C. `hits` are the threshold and the place of every
    true positive, (T,) each, by threshold and place. `excused` (N,) are those that do not count where they are no true
    positive; None where there are none. `truth` are the M annotations' labels and videos, (M,) each.
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
        """How often each video is there (V,), all of them once where None -> average precision (K, C).

        A video that is there w times is w videos with equal detections and annotations, ranked one after the other.
        Classes without an annotation in the videos that are there have NaN.
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
        """(T,) threshold and class of each true positive in one number, in rising order."""
        threshold, detection = self.hits
        return threshold * self.classes + self.label[detection]

    def false_before(self) -> Ints:
        """(T,) how many false positives that count are ranked before each true positive, in its class."""
        return self._before(None) + 1 - ordinals(self.segment)

    def mean_precision(self, precision: Floats, segment: Ints, positives: Floats) -> Floats:
        """Precision (T,) at true positives in stretches of equal `segment`, annotations a class (C,) -> AP (K, C).

        It is made monotone here, in its place, where the ranking is interpolated. Classes without annotations have NaN.
        """
        if self.interpolated:
            make_monotone(precision, segment)
        total = np.bincount(segment, precision, self.thresholds * self.classes).reshape(-1, self.classes)
        return np.asarray(np.divide(total, positives, out=np.full(total.shape, np.nan), where=positives > 0))

    def _before(self, weights: Ints | None) -> Ints:
        """How many detections that count stand before each true positive in its class."""
        threshold, detection = self.hits
        first = np.searchsorted(self.label, np.arange(self.classes))[self.label[detection]]
        if weights is None and self.excused is None:
            return detection - first
        each = np.ones(len(self.video), np.intp) if weights is None else weights[self.video]
        if self.excused is None:
            return _running(each, detection) - _running(each, first)
        # Those that are excused do not count, but for those that are true positives themselves.
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
    """Values (N,) and places (T,) -> (T,) the sum of all values before each place."""
    return np.asarray((np.cumsum(values) - values)[position])


def ordinals(segment: Ints) -> Ints:
    """(T,) in stretches of equal values -> (T,) the place of each in its stretch, from 1."""
    bounds = _bounds(segment)
    return np.asarray(np.arange(len(segment)) - np.repeat(bounds[:-1], np.diff(bounds)) + 1)


def make_monotone(precision: Floats, segment: Ints) -> None:
    """(T,) in stretches of equal `segment`: each value becomes the highest of those from it to its stretch's end."""
    bounds = _bounds(segment)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        stretch = precision[first:last][::-1]
        np.maximum.accumulate(stretch, out=stretch)


def _bounds(segment: Ints) -> Ints:
    """(T,) where each stretch of equal values begins, and T; empty where T is 0."""
    return np.flatnonzero(np.diff(segment, prepend=-1, append=-1))
