"""The field's protocols of evaluation: `PROTOCOLS` is the whole table.

All rank the detections of a class by descending score, judge each a true or a false positive at each threshold of tIoU,
and average precision over the annotations of the class, then over the classes that have any. Their differences:

activitynet
    By detection: each, best score first, is matched to the free annotation of highest tIoU that reaches the threshold.
    Precision is interpolated: made monotone from the right. Every detection counts, in any video. Also HACS's.
    Source: Evaluation/eval_detection.py of https://github.com/activitynet/ActivityNet.
thumos14
    The same, in official seconds, at the thresholds common in papers for THUMOS14.
thumos14-kit
    By annotation: in the order of the file, each is matched to the free detection of highest overlap, whatever its
    score, if it is above the threshold (not equal to it). Overlap is the intersection over the time from the first
    start to the last end. An unmatched detection that touches an ambiguous range does not count. Precision is not
    interpolated. Equal scores: videos by name.
    Source: TH14evalDet_Updated.m, the updated evaluation kit of https://www.crcv.ucf.edu/THUMOS14.
snippet
    W-TALC's: times are rounded to snippets of 16 frames at 25 per second; each detection is matched to the first free
    annotation of the file that reaches the threshold, not to the best one; precision is not interpolated; detections
    that touch an ambiguous range are left out, and so are those in videos without annotations.
    Source: detectionMAP.py of https://github.com/sujoyp/wtalc-pytorch.
snippet-best
    FAC-Net's and RSKP's: as `snippet`, but with the best annotation and interpolated precision.
    Source: evaluation/detectionMAP.py of https://github.com/LeonHLJ/RSKP.

Figures of different protocols differ by up to about two points of mAP and are never comparable.

Deviations. The originals of the two snippet protocols give mAP 0 if any class has no detection at all: here that class
has 0, with a remark in `Evaluation.notes`. Halves are rounded to the even snippet, as in Python 3 (the first of them
also ran on Python 2).
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
"""Orders of equal scores: that of the input, or that of ActivityNet's script, which also counts 0 / 0 as a hit."""
_SNIPPETS_PER_SECOND = 25 / 16
"""Rate of the features common to the W-TALC family; the rounding is part of the definition of its figures."""


def span_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) seconds -> (...) intersection over the time from the first start to the last end."""
    intersection = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    span = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    return np.asarray(np.divide(intersection, span, out=np.zeros_like(span), where=intersection > 0))


def set_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) whole snippets -> (...) common snippets over all of both; 0 if both are empty."""
    nonempty = np.maximum(first[..., 1], second[..., 1]) > np.minimum(first[..., 0], second[..., 0])
    return np.where(nonempty, tiou_pairs(first, second), 0.0)


def script_overlap(first: Floats, second: Floats) -> Floats:
    """(..., 2), (..., 2) seconds -> (...) tIoU as in ActivityNet's script: NaN if both have length 0."""
    start, end = np.maximum(first[..., 0], second[..., 0]), np.minimum(first[..., 1], second[..., 1])
    with np.errstate(invalid="ignore", over="ignore"):
        intersection = np.clip(end - start, 0.0, None)
        union = (second[..., 1] - second[..., 0]) + (first[..., 1] - first[..., 0]) - intersection
        return np.asarray(intersection / union)


@dataclass(frozen=True)
class Protocol:
    """Rules of one protocol; a row of the table above."""

    title: str
    """Description in one line."""
    tious: str
    """Thresholds, in the notation of `--tiou`."""
    overlap: Callable[[Floats, Floats], Floats] = tiou_pairs
    """Overlap measure, (..., 2), (..., 2) -> (...) in [0, 1]."""
    turns: Literal["detections", "annotations"] = "detections"
    """The choosing side: detections by descending score, or annotations in the order of the file."""
    choice: Literal["best", "first"] = "best"
    """Choice among the free partners that reach the threshold: the highest overlap, or the first."""
    later_wins: bool = False
    """For equal overlaps, prefer the later annotation in the file instead of the earlier."""
    strict: bool = False
    """Require an overlap above the threshold; otherwise the threshold itself is enough."""
    snippets: bool = False
    """Round times to snippets first."""
    interpolated: bool = True
    """Make precision monotone from the right."""
    ambiguous: Literal["ignored", "forgiven", "dropped"] = "ignored"
    """Treatment of detections that touch an ambiguous range: as others; not counted unless matched; never counted."""
    annotated_videos_only: bool = False
    """Leave out detections in videos without annotations; otherwise they are false positives."""
    by_name: bool = False
    """For equal scores, sort videos by name; otherwise in the order of the input."""
    as_script: bool = False
    """Treat equal scores, equal overlaps and 0 / 0 as in ActivityNet's script."""

    def times(self, segments: Floats) -> Floats:
        """Convert (N, 2) seconds to the unit of judgement."""
        return np.rint(segments * _SNIPPETS_PER_SECOND) if self.snippets else segments


_THUMOS14 = "0.1:0.9:0.1"

PROTOCOLS = {
    "activitynet": Protocol(
        "ActivityNet's and HACS's official definition: 0.5 to 0.95", "0.5:0.95:0.05", later_wins=True
    ),
    "thumos14": Protocol(
        "the same definition in official seconds: 0.1 to 0.9, also means over 0.1:0.5, 0.3:0.7, 0.1:0.7",
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
        "W-TALC's: rounded to snippets, the first annotation that reaches the threshold, no interpolation",
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
"""Protocols by name."""


def find_protocol(name: str, ties: str = INPUT) -> Protocol:
    """Return the protocol named `name`; `ties` is one of `TIES`.

    Raises:
        UsageError: when there is none, with the nearest match, or when it does not support such ties.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}; {suggest(name, PROTOCOLS)}")
    if ties not in TIES:
        raise UsageError(f"there is no order of ties {ties!r}; {suggest(ties, TIES)}")
    if ties == INPUT:
        return PROTOCOLS[name]
    if not alike(name, DEFAULT_PROTOCOL):
        raise UsageError(f"--ties {ties} is ActivityNet's order, the protocol {name!r} has its own; omit the option")
    return replace(PROTOCOLS[name], as_script=True)


def alike(first: str, second: str) -> bool:
    """Return True if two protocols have the same rules, whatever their thresholds.

    Raises:
        UsageError: when there is no protocol of such a name.
    """
    first_rules, second_rules = (replace(find_protocol(name), title="", tious="") for name in (first, second))
    return first_rules == second_rules
