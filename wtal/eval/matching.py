"""Match detections to annotations, for all videos, classes and thresholds at once.

Every protocol lets the members of one side choose in a fixed order, each its best partner that is still free. This is
the unique stable matching of a market in which the other side prefers the member that is first in that order, so it is
computed in rounds instead of one by one: all members without a partner propose to the next one on their list, which
keeps the first in order of its proposers (Gale and Shapley's deferred acceptance). The number of rounds is about that
of detections around one annotation, whatever the size of the input.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Columns, Floats, Ints

_AT_ONCE = 1 << 20
"""Number of pairs processed together, to bound memory: about 100 bytes each."""

_LONGEST = 1e300
"""Maximum length of the time line on which all videos and labels are laid, to prevent overflow."""


@dataclass(frozen=True)
class Pairs:
    """P overlapping pairs: indices of the detection (P,) and of the annotation (P,), overlaps (P,)."""

    detection: Ints
    annotation: Ints
    overlap: Floats

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "Pairs":
        """Select the pairs at `index`: indices, or a mask."""
        return Pairs(self.detection[index], self.annotation[index], self.overlap[index])


def find_pairs(
    detections: Columns, annotations: Columns, overlap: Callable[[Floats, Floats], Floats], least: float
) -> Pairs:
    """Find all pairs of the same video and label that overlap by at least `least`, above 0; sorted by detection."""
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite length has no overlap
        blocks = [pairs.take(pairs.overlap >= least) for pairs in _all_pairs(detections, annotations, overlap)]
    return Pairs(
        np.concatenate([pairs.detection for pairs in blocks]),
        np.concatenate([pairs.annotation for pairs in blocks]),
        np.concatenate([pairs.overlap for pairs in blocks]),
    )


def _all_pairs(
    detections: Columns, annotations: Columns, overlap: Callable[[Floats, Floats], Floats]
) -> Iterator[Pairs]:
    """Yield candidate pairs in blocks, so that a video with very many segments does not fill the memory."""
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
    """Sort the annotations, and find for each detection the range of those that it may overlap.

    All videos and labels are laid end to end on one time line, so that one search finds the annotations that begin
    before the detection ends, and those before which none ends after it begins.
    """
    # The part of a detection beyond all annotations does not matter, however far it extends.
    origin, end = annotations.times.min(initial=0.0), annotations.times.max(initial=0.0)
    inside = np.clip(detections.times, origin, end)
    labels = 1 + max(detections.label.max(initial=0), annotations.label.max(initial=0))
    videos = 1 + max(detections.video.max(initial=0), annotations.video.max(initial=0))
    width = 2 * (end - origin) + 1
    if width > _LONGEST / (videos * labels):
        known = np.unique(annotations.times)  # their ranks preserve the order of times, and are small
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
    """Pairs (P,), sorted by chooser (in the order of choice), then by preference -> indices of the matches, unsorted.

    Each chooser gets its most preferred partner that no earlier chooser has taken.
    """
    if not len(chooser):
        return np.zeros(0, np.intp)
    current = np.flatnonzero(np.r_[True, chooser[1:] != chooser[:-1]])  # current pair of each chooser
    last = np.r_[current[1:], len(chooser)]
    no_chooser = len(current)
    holder = np.full(chosen.max() + 1, no_chooser)
    proposers = np.arange(no_chooser)
    while len(proposers):
        targets = chosen[current[proposers]]
        before = holder[targets]
        np.minimum.at(holder, targets, proposers)
        accepted = holder[targets] == proposers
        displaced = before[accepted & (before != no_chooser)]
        proposers = np.concatenate([proposers[~accepted], displaced])
        current[proposers] += 1
        proposers = proposers[current[proposers] < last[proposers]]
    return np.asarray(current[holder[holder != no_chooser]])
