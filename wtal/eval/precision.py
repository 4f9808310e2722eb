"""Average precision of ranked detections, for all classes and thresholds at once, with or without weights of videos."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """N detections by class, then by descending score, and which of them are true positives at K thresholds.

    `video` and `label` are (N,), `hits` is (K, N). `counted` is (K, N), or None where every detection counts. `truth`
    are the M annotations' labels and videos, (M,) each. Labels are below `classes`, C, and videos below `videos`, V.
    """

    video: Ints
    label: Ints
    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_] | None
    truth: tuple[Ints, Ints]
    classes: int
    videos: int
    interpolated: bool

    def average_precision(self, weights: Ints | None = None) -> Floats:
        """How often each video is there (V,), all of them once where None -> average precision (K, C).

        A video that is there w times is w videos with equal detections and annotations, ranked one after the other.
        Classes without an annotation in the videos that are there have NaN.
        """
        threshold, place = self._found
        segment, before = threshold * self.classes + self.label[place], self._before(weights)
        copy: Ints = np.zeros(len(place), np.intp)
        if weights is not None:
            times = weights[self.video[place]]
            row = np.repeat(np.arange(len(place)), times)
            copy = np.arange(len(row)) - (np.cumsum(times) - times)[row]
            segment, before = segment[row], before[row]
        bounds = np.flatnonzero(np.diff(segment, prepend=-1, append=-1))
        hits = np.arange(len(segment)) - np.repeat(bounds[:-1], np.diff(bounds)) + 1
        precision = hits / (before + copy + 1)
        if self.interpolated:
            _make_monotone(precision, bounds)
        total = np.bincount(segment, precision, len(self.hits) * self.classes).reshape(-1, self.classes)
        positives = self._positives(weights)
        return np.asarray(np.divide(total, positives, out=np.full(total.shape, np.nan), where=positives > 0))

    @cached_property
    def _found(self) -> tuple[Ints, Ints]:
        """Threshold and place of every true positive: by threshold, class and rank."""
        threshold, place = np.nonzero(self.hits)
        return threshold, place

    def _before(self, weights: Ints | None) -> Ints:
        """How many detections that count stand before each true positive in its class."""
        threshold, place = self._found
        first = np.searchsorted(self.label, np.arange(self.classes))[self.label[place]]
        if weights is None and self.counted is None:
            return place - first
        each = np.ones(len(self.video), np.intp) if weights is None else weights[self.video]
        if self.counted is None:
            before = np.cumsum(each) - each
            return np.asarray(before[place] - before[first])
        counting = self.counted * each
        before = np.cumsum(counting, axis=1) - counting
        return np.asarray(before[threshold, place] - before[threshold, first])

    def _positives(self, weights: Ints | None) -> Floats:
        labels, videos = self.truth
        return np.bincount(labels, None if weights is None else weights[videos], self.classes).astype(np.float64)


def _make_monotone(precision: Floats, bounds: Ints) -> None:
    """(T,) in stretches between `bounds`: each value becomes the highest of those from it to its stretch's end."""
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        stretch = precision[first:last][::-1]
        np.maximum.accumulate(stretch, out=stretch)
