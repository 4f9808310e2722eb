"""Decode a student's output at points into candidate segments, in grid steps.

Source: the inference of ActionFormer (Zhang, Wu, Li; ECCV 2022), section 3.4 and public code.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wtal.models.student import Points, StudentOutput


class DecodedSegments(NamedTuple):
    """K segments of one video: `borders` (K, 2) in grid steps, `classes` (K,) indices, `scores` (K,) in (0, 1)."""

    borders: Tensor
    classes: Tensor
    scores: Tensor


def decode(
    output: StudentOutput,
    video: int,
    threshold: float = 0.001,
    per_level: int = 2000,
    shortest: float = 0.05,
) -> DecodedSegments:
    """Return the candidates of one video of a batch, before suppression: level after level, best first in each.

    A point yields a segment for each class whose probability exceeds `threshold`. The best `per_level` points and
    classes of a level are used; segments must be longer than `shortest` grid steps (ActivityNet: 0.001).
    """
    points, logits, distances = output.points, output.logits[video], output.distances[video]
    probabilities = logits.float().sigmoid() * output.mask[video][:, None]
    parts = []
    for stride in sorted(set(points.stride.tolist())):
        level = (points.stride == stride).nonzero()[:, 0]
        best = _best(probabilities[level], threshold, per_level)
        parts.append(_segments(points, probabilities, distances.float(), level[best[0]], best[1]))
    borders, classes, scores = (torch.cat(values) for values in zip(*parts, strict=True))
    long_enough = borders[:, 1] - borders[:, 0] > shortest
    return DecodedSegments(borders[long_enough], classes[long_enough], scores[long_enough])


def _best(probabilities: Tensor, threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """(P, C) -> the rows and columns of the best `count` above a threshold, best first."""
    flat = probabilities.flatten()
    above = (flat > threshold).nonzero()[:, 0]
    order = flat[above].sort(descending=True, stable=True).indices[:count]
    chosen = above[order]
    return chosen // probabilities.shape[1], chosen % probabilities.shape[1]


def _segments(
    points: Points, probabilities: Tensor, distances: Tensor, point: Tensor, label: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """K points and classes -> borders (K, 2), classes (K,), scores (K,)."""
    reach = distances[point] if distances.ndim == 2 else distances[point, label]
    reach = reach * points.stride[point][:, None]
    time = points.time[point]
    return torch.stack([time - reach[:, 0], time + reach[:, 1]], dim=1), label, probabilities[point, label]
