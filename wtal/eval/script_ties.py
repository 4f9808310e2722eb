"""Ties as in ActivityNet's script, for figures that equal its own to the last detection.

The script sorts the scores of a class, and the overlaps of a detection with the annotations of its class and video,
with numpy's `argsort` of the default kind, and reverses the order. That algorithm is not stable: the order of equal
values depends on the version of numpy and the processor (up to 16 values, mostly the later one first). So it is called
here on exactly the same arrays as in the script. If both a detection and an annotation have length 0, the script
divides 0 by 0: no threshold is above the result, which precedes all overlaps, wherever the two are.

Source: Evaluation/eval_detection.py and utils.py of https://github.com/activitynet/ActivityNet.
"""

import numpy as np
from numpy.typing import NDArray

from wtal.eval.columns import Columns, Floats, Ints, ScoredColumns, stable_order
from wtal.eval.matching import Pairs, find_pairs
from wtal.eval.protocols import script_overlap


def script_ranking(detections: ScoredColumns) -> Ints:
    """N detections in the order of the input -> indices by class, then by descending score, sorted as in the script."""
    by_class = stable_order(detections.label)
    ends = np.flatnonzero(np.diff(detections.label[by_class])) + 1
    groups = np.split(by_class, ends)
    return np.concatenate([group[np.argsort(detections.score[group])[::-1]] for group in groups])


def script_pairs(detections: Columns, truth: Columns, least: float) -> Pairs:
    """Find pairs of the same video and label that overlap by at least `least`, by detection; 0 / 0 is infinite."""
    short, point = np.flatnonzero(_no_length(detections)), np.flatnonzero(_no_length(truth))
    pairs = find_pairs(detections, truth, _overlap, least)
    pairs = pairs.take(~(_no_length(detections)[pairs.detection] & _no_length(truth)[pairs.annotation]))
    anywhere = find_pairs(_at_zero(detections, short), _at_zero(truth, point), _overlap, least)
    detection = np.concatenate([pairs.detection, short[anywhere.detection]])
    annotation = np.concatenate([pairs.annotation, point[anywhere.annotation]])
    overlap = np.concatenate([pairs.overlap, anywhere.overlap])
    return Pairs(detection, annotation, overlap).take(stable_order(detection))


def script_preference(pairs: Pairs, order: Ints, detections: Columns, truth: Columns) -> Ints:
    """Re-sort indices of pairs (P,), by detection and descending overlap, for equal overlaps as in the script."""
    detection, overlap = pairs.detection[order], pairs.overlap[order]
    tied = np.flatnonzero((detection[1:] == detection[:-1]) & (overlap[1:] == overlap[:-1]))
    order = order.copy()
    for number in np.unique(detection[tied]):
        mine = slice(*np.searchsorted(detection, [number, number + 1]))
        annotations = np.flatnonzero(
            (truth.video == detections.video[number]) & (truth.label == detections.label[number])
        )
        overlaps = script_overlap(detections.times[number], truth.times[annotations])
        rank = np.empty(len(annotations), np.intp)
        rank[np.argsort(overlaps)[::-1]] = np.arange(len(annotations))
        order[mine] = order[mine][np.argsort(rank[np.searchsorted(annotations, pairs.annotation[order[mine]])])]
    return order


def _overlap(first: Floats, second: Floats) -> Floats:
    return np.nan_to_num(script_overlap(first, second), nan=np.inf, posinf=np.inf)


def _no_length(segments: Columns) -> NDArray[np.bool_]:
    return np.asarray(segments.times[:, 0] == segments.times[:, 1])


def _at_zero(segments: Columns, index: Ints) -> Columns:
    """Select the segments at `index`, all moved to second 0."""
    times = np.zeros((len(index), 2))
    return Columns(segments.video[index], segments.label[index], times)
