"""The ways in which the field judges detections, side by side: `PROTOCOLS` is the whole table.

All rank the detections of a class by descending score, call each a true or a false positive at each threshold of tIoU,
and average precision over the annotations of the class, then over the classes that have one. They differ in this:

activitynet
    By detection: each, best score first, takes the annotation of highest tIoU that reaches the threshold and is still
    free. Precision is interpolated: made monotone from the right. Every detection counts, in any video. HACS too.
    Source: Evaluation/eval_detection.py of https://github.com/activitynet/ActivityNet.
thumos14
    The same, in official seconds, at the thresholds that papers print for THUMOS14.
thumos14-kit
    By annotation: in the order of the file, each takes the free detection of highest overlap, whatever its score, if
    it is above the threshold (not at it). Overlap is the intersection over the time from the first start to the last
    end. A detection that no annotation took and that touches an ambiguous range counts neither way. Precision is not
    interpolated. Equal scores: videos by name.
    Source: TH14evalDet_Updated.m, the updated evaluation kit of https://www.crcv.ucf.edu/THUMOS14.
snippet
    W-TALC's: times are rounded to snippets of 16 frames at 25 a second; each detection takes the first annotation of
    the file that reaches the threshold and is free, not the best one; precision is not interpolated; detections that
    touch an ambiguous range are left out, and so are those in videos without annotations.
    Source: detectionMAP.py of https://github.com/sujoyp/wtalc-pytorch.
snippet-best
    FAC-Net's and RSKP's: as `snippet`, but the best annotation is taken and precision is interpolated.
    Source: evaluation/detectionMAP.py of https://github.com/LeonHLJ/RSKP.

Figures of two protocols differ by up to about two points of mAP and are never comparable.

Deviations. The two of snippets give mAP 0 as soon as one class has no detection at all: here that class has 0, and
`Evaluation.notes` says so. They round halves to the even snippet, as Python 3 does (the first of them ran on 2, too).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from wtal.data.segments import tiou_pairs
from wtal.errors import UsageError
from wtal.eval.columns import Floats
from wtal.registry import suggest

DEFAULT_PROTOCOL = "activitynet"
TIES = INPUT, OFFICIAL = "input", "official"
"""Orders of equal scores: that of the input, or that of ActivityNet's script, which takes 0 / 0 for a hit, too."""
_SNIPPETS_PER_SECOND = 25 / 16
"""Of the features that the W-TALC family shares; the rounding is part of what its figures mean."""


def span_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) seconds -> (...) intersection over the time from the first start to the last end."""
    intersection = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    span = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    return np.asarray(np.divide(intersection, span, out=np.zeros_like(span), where=intersection > 0))


def set_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) whole snippets -> (...) shared ones over all of both; 0 where neither holds one."""
    held = np.maximum(first[..., 1], second[..., 1]) > np.minimum(first[..., 0], second[..., 0])
    return np.where(held, tiou_pairs(first, second), 0.0)


def script_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) seconds -> (...) as ActivityNet's script divides it: NaN where neither has a length."""
    start, end = np.maximum(first[..., 0], second[..., 0]), np.minimum(first[..., 1], second[..., 1])
    with np.errstate(invalid="ignore", over="ignore"):
        intersection = np.clip(end - start, 0.0, None)
        union = (second[..., 1] - second[..., 0]) + (first[..., 1] - first[..., 0]) - intersection
        return np.asarray(intersection / union)


@dataclass(frozen=True)
class Protocol:
    """One way to judge; a line of the table above."""

    title: str
    """One line."""
    tious: str
    """Its thresholds, as `--tiou` takes them."""
    overlap: Callable[[Floats, Floats], Floats] = tiou_pairs
    """(..., 2), (..., 2) -> (...) in [0, 1]."""
    turns: Literal["detections", "annotations"] = "detections"
    """Who chooses: detections by descending score, or annotations in the order of the file."""
    choice: Literal["best", "first"] = "best"
    """What is chosen among the free ones that fit: that of highest overlap, or the first."""
    later_wins: bool = False
    """Which of two equal overlaps is the best: the later one of the file, or the earlier."""
    strict: bool = False
    """Whether an overlap must be above the threshold; else the threshold itself is enough."""
    snippets: bool = False
    """Whether times are rounded to snippets first."""
    interpolated: bool = True
    """Whether precision is made monotone from the right."""
    ambiguous: Literal["ignored", "forgiven", "dropped"] = "ignored"
    """What becomes of detections that touch an ambiguous range: nothing; not counted unless matched; never counted."""
    annotated_videos_only: bool = False
    """Whether detections in videos without annotations are left out; else they are false positives."""
    by_name: bool = False
    """Whether videos are in the order of their names, where scores are equal; else in the order of the input."""
    as_script: bool = False
    """Whether equal scores, equal overlaps and 0 / 0 are taken as ActivityNet's script takes them."""

    def times(self, segments: Floats) -> Floats:
        """(N, 2) seconds -> (N, 2) in the unit that is judged in."""
        return np.rint(segments * _SNIPPETS_PER_SECOND) if self.snippets else segments


_THUMOS14 = "0.1:0.9:0.1"

PROTOCOLS = {
    "activitynet": Protocol(
        "ActivityNet's and HACS's official definition: 0.5 to 0.95", "0.5:0.95:0.05", later_wins=True
    ),
    "thumos14": Protocol(
        "the same definition in official seconds: 0.1 to 0.9, means over 0.1:0.5, 0.3:0.7, 0.1:0.7 too",
        _THUMOS14,
        later_wins=True,
    ),
    "thumos14-kit": Protocol(
        "THUMOS14's own kit: annotations choose, strict threshold, ambiguous ranges, no interpolation",
        _THUMOS14,
        overlap=span_overlap,
        turns="annotations",
        strict=True,
        interpolated=False,
        ambiguous="forgiven",
        by_name=True,
    ),
    "snippet": Protocol(
        "W-TALC's: rounded to snippets, the first annotation that fits, no interpolation",
        _THUMOS14,
        overlap=set_overlap,
        choice="first",
        snippets=True,
        interpolated=False,
        ambiguous="dropped",
        annotated_videos_only=True,
    ),
    "snippet-best": Protocol(
        "FAC-Net's and RSKP's: rounded to snippets, the best annotation, interpolated",
        _THUMOS14,
        overlap=set_overlap,
        snippets=True,
        ambiguous="dropped",
        annotated_videos_only=True,
    ),
}
"""By name."""


def find_protocol(name: str, ties: str = INPUT) -> Protocol:
    """The protocol of that name; `ties` is one of `TIES`.

    Raises:
        UsageError: with the nearest match, when there is none, or when ties are to be those of another one's script.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}; {suggest(name, PROTOCOLS)}")
    if ties not in TIES:
        raise UsageError(f"there are no ties {ties!r}; {suggest(ties, TIES)}")
    if ties == INPUT:
        return PROTOCOLS[name]
    if not alike(name, DEFAULT_PROTOCOL):
        raise UsageError(f"--ties {ties} is of ActivityNet's script, and the protocol {name!r} has its own order")
    return replace(PROTOCOLS[name], as_script=True)


def alike(first: str, second: str) -> bool:
    """Tell whether two protocols judge in one way, whatever thresholds they name.

    Raises:
        UsageError: when there is none of a name.
    """
    first_rules, second_rules = (replace(find_protocol(name), title="", tious="") for name in (first, second))
    return first_rules == second_rules
