"""Which detections meet which annotations, for all videos, classes and thresholds at once.

Every protocol lets the members of one side choose in a fixed order, each its best partner that is still free. That is
the one stable matching of a market in which the other side prefers whoever comes first in that order, so it is found in
rounds instead of one by one: all who are without a partner ask the next one on their list, and whoever is asked keeps
the first in order of those who ask (Gale and Shapley's deferred acceptance). There are about as many rounds as
detections crowd on one annotation, whatever the size of the input.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Columns, Floats, Ints

_AT_ONCE = 1 << 20
"""Pairs that are looked at together: it bounds the memory, about 100 bytes each."""

_LONGEST = 1e300
"""Length of the line of time on which all videos and labels are laid, which must not overflow."""


@dataclass(frozen=True)
class Pairs:
    """P overlapping pairs of one group: places of the detection (P,) and the annotation (P,), overlaps (P,)."""

    detection: Ints
    annotation: Ints
    overlap: Floats

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "Pairs":
        """Those at `index`: places, or a mask."""
        return Pairs(self.detection[index], self.annotation[index], self.overlap[index])


def find_pairs(
    detections: Columns, annotations: Columns, overlap: Callable[[Floats, Floats], Floats], least: float
) -> Pairs:
    """All pairs of one video and label that overlap by at least `least`, which is above 0; by detection."""
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite length overlaps by nothing
        blocks = [pairs.take(pairs.overlap >= least) for pairs in _all_pairs(detections, annotations, overlap)]
    return Pairs(
        np.concatenate([pairs.detection for pairs in blocks]),
        np.concatenate([pairs.annotation for pairs in blocks]),
        np.concatenate([pairs.overlap for pairs in blocks]),
    )


def _all_pairs(
    detections: Columns, annotations: Columns, overlap: Callable[[Floats, Floats], Floats]
) -> Iterator[Pairs]:
    """In blocks, so that a video with very many segments does not fill the memory."""
    order, first, last = _neighbours(detections, annotations)
    count = np.maximum(last - first, 0)
    before = np.cumsum(count) - count
    blocks = np.searchsorted(before, np.arange(0, count.sum() + 1, _AT_ONCE))
    for start, stop in zip(blocks, [*blocks[1:], len(count)], strict=True):
        detection = np.repeat(np.arange(start, stop), count[start:stop])
        neighbour = np.arange(len(detection)) + np.repeat((first - before)[start:stop], count[start:stop])
        annotation = order[neighbour + before[start : start + 1]]
        yield Pairs(detection, annotation, overlap(detections.times[detection], annotations.times[annotation]))


def _neighbours(detections: Columns, annotations: Columns) -> tuple[Ints, Ints, Ints]:
    """An order of the annotations, and for each detection where in it those begin and end that it may overlap.

    All videos and labels are laid behind one another on one line of time, so that one search finds the annotations
    that begin before the detection ends, and those before which none ends after it begins.
    """
    # Where a detection leaves all annotations behind does not matter, be it at the end of all numbers.
    origin, end = annotations.times.min(initial=0.0), annotations.times.max(initial=0.0)
    inside = np.clip(detections.times, origin, end)
    labels = 1 + max(detections.label.max(initial=0), annotations.label.max(initial=0))
    videos = 1 + max(detections.video.max(initial=0), annotations.video.max(initial=0))
    width = 2 * (end - origin) + 1
    if width > _LONGEST / (videos * labels):
        known = np.unique(annotations.times)  # their places keep the order of times, and are small
        ranks = np.searchsorted(known, annotations.times).astype(float)
        first = np.searchsorted(known, inside[:, 0], "right") - 1
        last = np.searchsorted(known, inside[:, 1], "left")
        inside = np.stack([np.maximum(first, 0), np.minimum(last, len(known) - 1)], axis=1).astype(float)
        return _neighbours(replace(detections, times=inside), replace(annotations, times=ranks))
    annotation_times = ((annotations.video * labels + annotations.label) * width)[:, None] + (
        annotations.times - origin
    )
    detection_times = ((detections.video * labels + detections.label) * width)[:, None] + (inside - origin)
    rounding = 4 * np.spacing(max(annotation_times.max(initial=0.0), detection_times.max(initial=0.0)))
    order = np.argsort(annotation_times[:, 0], kind="stable")
    first = np.searchsorted(np.maximum.accumulate(annotation_times[order, 1]), detection_times[:, 0] - rounding, "left")
    return order, first, np.searchsorted(annotation_times[order, 0], detection_times[:, 1] + rounding, "right")


def settle(chooser: Ints, chosen: Ints) -> Ints:
    """Pairs (P,), ordered by chooser (the first in order chooses first), then by preference -> places of the matches.

    Each chooser takes the most preferred that no earlier chooser has taken. The places are in no order.
    """
    if not len(chooser):
        return np.zeros(0, np.intp)
    current = np.flatnonzero(np.r_[True, chooser[1:] != chooser[:-1]])  # of the pair that each chooser stands at
    last = np.r_[current[1:], len(chooser)]
    nobody = len(current)
    holder = np.full(chosen.max() + 1, nobody)
    asking = np.arange(nobody)
    while len(asking):
        asked = chosen[current[asking]]
        before = holder[asked]
        np.minimum.at(holder, asked, asking)
        now = holder[asked]
        won = now == asking
        displaced = before[won & (before != nobody)]
        asking = np.concatenate([asking[~won], displaced])
        current[asking] += 1
        asking = asking[current[asking] < last[asking]]
    return np.asarray(current[holder[holder != nobody]])
