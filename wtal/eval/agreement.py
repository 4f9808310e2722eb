"""Agreement of detections that several seeds made of the same videos, without annotations.

A detection counts as sure where its score is at least half of what the class's best detection in a video typically (in
the median video) scores with that seed. The sure detections of two seeds are matched one to one, the best first, where
they overlap by a tIoU of 0.5; their agreement is the share of them that have a match, 2 M / (A + B) (Dice), over all
videos together. Several seeds of a head agree by the mean over their pairs, several heads by the mean over all pairs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean, median

from wtal.data.segments import Detection, tiou

_TIOU = 0.5
_SURE = 0.5
"""Share of the typical best score from which a detection counts."""

Detections = Mapping[str, Sequence[Detection]]


def agreement(heads: Sequence[Sequence[Detections]], classes: Sequence[str]) -> dict[str, float]:
    """Return class -> mean share in [0, 1] of sure detections that two seeds of one of the `heads` share.

    A class of which no two seeds are sure anywhere is left out, and so are all where no head has two seeds.
    """
    shares = {}
    for label in classes:
        sure = [[_sure(detections, label) for detections in seeds] for seeds in heads]
        pairs = [_dice(first, second) for seeds in sure for first, second in combinations(seeds, 2)]
        known = [share for share in pairs if share is not None]
        if known:
            shares[label] = mean(known)
    return shares


def _sure(detections: Detections, label: str) -> dict[str, list[Detection]]:
    """Return the sure detections of a class, best first, by video."""
    own = {video: [d for d in several if d.label == label] for video, several in detections.items()}
    best = [max(d.score for d in several) for several in own.values() if several]
    least = _SURE * median(best) if best else 0.0
    return {
        video: sorted((d for d in several if d.score >= least), key=lambda d: -d.score)
        for video, several in own.items()
    }


def _dice(first: Mapping[str, list[Detection]], second: Mapping[str, list[Detection]]) -> float | None:
    """Return the share of detections that have a match; None where there is no detection."""
    count = sum(len(several) for side in (first, second) for several in side.values())
    matches = sum(_matches(several, second.get(video, [])) for video, several in first.items())
    return 2 * matches / count if count else None


def _matches(first: Sequence[Detection], second: Sequence[Detection]) -> int:
    left = list(second)
    matches = 0
    for detection in first:
        overlaps = [tiou(detection, other) for other in left]
        if overlaps and max(overlaps) >= _TIOU:
            left.pop(overlaps.index(max(overlaps)))
            matches += 1
    return matches
