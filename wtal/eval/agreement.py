"""Agreement between the detections of several seeds on the same videos, without annotations.

A detection is confident if its score is at least half of the typical score (that in the median video) of the class's
best detection in a video with that seed. The confident detections of two seeds are matched one to one, best first, if
they overlap by a tIoU of 0.5; their agreement is the share of them with a match, 2 M / (A + B) (Dice), over all videos
together. The agreement of several seeds of a head is the mean over their pairs, of several heads over all pairs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean, median

from wtal.data.segments import Detection, tiou

_TIOU = 0.5
_CONFIDENT = 0.5
"""Share of the typical best score from which a detection counts."""

Detections = Mapping[str, Sequence[Detection]]


def agreement(heads: Sequence[Sequence[Detections]], classes: Sequence[str]) -> dict[str, float]:
    """Return class -> mean share in [0, 1] of confident detections common to two seeds of one of the `heads`.

    A class for which no two seeds have any confident detection is left out, and so are all if no head has two seeds.
    """
    shares = {}
    for label in classes:
        confident = [[_confident(detections, label) for detections in seeds] for seeds in heads]
        pairs = [_dice(first, second) for seeds in confident for first, second in combinations(seeds, 2)]
        known = [share for share in pairs if share is not None]
        if known:
            shares[label] = mean(known)
    return shares


def _confident(detections: Detections, label: str) -> dict[str, list[Detection]]:
    """Return the confident detections of a class, best first, by video."""
    own = {video: [d for d in several if d.label == label] for video, several in detections.items()}
    best = [max(d.score for d in several) for several in own.values() if several]
    least = _CONFIDENT * median(best) if best else 0.0
    return {
        video: sorted((d for d in several if d.score >= least), key=lambda d: -d.score)
        for video, several in own.items()
    }


def _dice(first: Mapping[str, list[Detection]], second: Mapping[str, list[Detection]]) -> float | None:
    """Return the share of detections with a match; None if there are no detections."""
    count = sum(len(several) for side in (first, second) for several in side.values())
    matches = sum(_matches(several, second.get(video, [])) for video, several in first.items())
    return 2 * matches / count if count else None


def _matches(first: Sequence[Detection], second: Sequence[Detection]) -> int:
    unmatched = list(second)
    matches = 0
    for detection in first:
        overlaps = [tiou(detection, other) for other in unmatched]
        if overlaps and max(overlaps) >= _TIOU:
            unmatched.pop(overlaps.index(max(overlaps)))
            matches += 1
    return matches
