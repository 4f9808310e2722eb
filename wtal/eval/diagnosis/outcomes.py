"""Outcome of each detection: a true positive, or a kind of false positive.

A false positive is classified by the annotation of its video that it overlaps most, of any class; among equal overlaps
one of its own class. If that overlap reaches the threshold, it is a `duplicate` (own class: the annotation is matched
to another detection) or has the `wrong label`; if it reaches 0.1, it is an error of `localization` (own class) or
`confusion` (another class); else it is `background`. A detection excused by the protocol (in an ambiguous range) is
`not counted`.

Source: H. Alwassel et al., Diagnosing Error in Temporal Action Detectors (ECCV 2018), section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Columns, Floats, Ints
from wtal.eval.judge import JudgedRanking
from wtal.eval.matching import find_pairs
from wtal.eval.protocols import Protocol

ERRORS = ("duplicate", "wrong label", "localization", "confusion", "background")
OUTCOMES = ("true positive", *ERRORS, "not counted")
"""Outcomes by code."""

NEAR = 0.1
"""Overlap from which a false positive is related to an annotation."""

_TRUE, _DUPLICATE, _WRONG_LABEL, _LOCALIZATION, _CONFUSION, _BACKGROUND, _NOT_COUNTED = range(len(OUTCOMES))

OutcomeCodes = NDArray[np.int8]


def outcomes(judged: JudgedRanking, tious: Sequence[float], protocol: Protocol) -> OutcomeCodes:
    """N ranked detections, judged at K thresholds -> (K, N) indices in `OUTCOMES`."""
    ranking = judged.ranking
    own, other = _best_overlaps(judged.detections, judged.truth, protocol.overlap, min(NEAR, *tious))
    same_class, best = own >= other, np.maximum(own, other)
    far = np.where(best < NEAR, _BACKGROUND, np.where(same_class, _LOCALIZATION, _CONFUSION))
    near = np.where(same_class, _DUPLICATE, _WRONG_LABEL)
    codes = np.empty((len(tious), len(best)), np.int8)
    for row, tiou in zip(codes, tious, strict=True):
        row[:] = np.where(best > tiou if protocol.strict else best >= tiou, near, far)
    if ranking.excused is not None:
        codes[:, ranking.excused] = _NOT_COUNTED
    codes[ranking.hits] = _TRUE
    return codes


def _best_overlaps(
    detections: Columns, truth: Columns, overlap: Callable[[Floats, Floats], Floats], least: float
) -> tuple[Floats, Floats]:
    """(N,), (N,): the highest overlap of each detection with annotations of its own class, and of other classes.

    Values below `least` may be 0.
    """
    pairs = find_pairs(_unlabelled(detections), _unlabelled(truth), overlap, least)
    same = detections.label[pairs.detection] == truth.label[pairs.annotation]
    sides = []
    for selected in (same, ~same):
        best = np.zeros(len(detections))
        np.maximum.at(best, pairs.detection[selected], pairs.overlap[selected])
        sides.append(best)
    return sides[0], sides[1]


def _unlabelled(segments: Columns) -> Columns:
    return replace(segments, label=np.zeros_like(segments.label))


def by_rank(codes: OutcomeCodes, judged: JudgedRanking, slices: int) -> Ints:
    """(K, N) -> (K, slices + 1, outcomes): counts of each outcome by rank within the class.

    Slice k has ranks k * G to (k + 1) * G - 1, where G is the number of annotations of the class; the last slice has
    all further ranks.
    """
    label, classes = judged.ranking.label, judged.ranking.classes
    truth = np.bincount(judged.truth.label, minlength=classes)
    rank = np.arange(len(label)) - np.searchsorted(label, np.arange(classes))[label]
    cell = np.minimum(rank // truth[label], slices) * len(OUTCOMES)
    size = (slices + 1) * len(OUTCOMES)
    counts = [np.bincount(cell + row, minlength=size) for row in codes]
    return np.array(counts).reshape(-1, slices + 1, len(OUTCOMES))
