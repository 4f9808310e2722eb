"""A student's training data: a padded batch of videos, and a target for each point from the pseudo segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wtal.data.batch import SnippetBatch
from wtal.models.refinement.pseudo_segments import PseudoSegments
from wtal.models.regression.points import assign
from wtal.models.student import Points, PointTargets
from wtal.models.training.inputs import Arrays, Scaler


@dataclass(frozen=True)
class TaughtVideo:
    """A training video: id, loader of (T, D) features, multi-hot labels (C,), clock; no annotated times.

    Snippet i has its middle at second `begins` + i * `period`. A video without labels is known to have no class.
    """

    id: str
    load: Callable[[], Arrays]
    labels: NDArray[np.float32]
    begins: float
    period: float


@dataclass(frozen=True)
class TaughtBatch:
    """B videos: `features` (B, T, D), `mask` (B, T), `labels` (B, C), and the first snippet of each video's window."""

    features: Tensor
    mask: Tensor
    labels: Tensor
    firsts: tuple[int, ...]


def taught_batch(
    videos: Sequence[TaughtVideo], scaler: Scaler, max_length: int, noise: float, rng: np.random.Generator
) -> TaughtBatch:
    """Collate B videos; longer ones are cut to a random window of `max_length` snippets."""
    parts, firsts = [], []
    for video in videos:
        arrays = video.load()
        length = len(next(iter(arrays.values())))
        first = int(rng.integers(length - max_length + 1)) if length > max_length else 0
        scaled = scaler({name: x[first : first + max_length] for name, x in arrays.items()})
        parts.append({name: _disturbed(x, noise, rng) for name, x in scaled.items()})
        firsts.append(first)
    labels = torch.from_numpy(np.stack([video.labels for video in videos]))
    batch = SnippetBatch.collate(parts, labels)
    return TaughtBatch(batch.features(), batch.mask, labels, tuple(firsts))


def _disturbed(x: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    return x + noise * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)) if noise else x


def targets_of(
    videos: Sequence[TaughtVideo], firsts: Sequence[int], segments: Sequence[PseudoSegments], points: Points
) -> PointTargets:
    """Assign each video's segments (seconds) to the points.

    Points in an ignored stretch but in no segment have weight 0, and so have all points of a video with labels but
    without segments. In a video known to have no class, every point is background.
    """
    return PointTargets.stack(
        [_targets(video, first, own, points) for video, first, own in zip(videos, firsts, segments, strict=True)]
    )


def _targets(video: TaughtVideo, first: int, segments: PseudoSegments, points: Points) -> PointTargets:
    def grid_steps(seconds: NDArray[np.float64]) -> Tensor:
        steps = (seconds - video.begins) / video.period - first
        return torch.tensor(steps, dtype=torch.float32, device=points.time.device)

    borders = grid_steps(segments.borders)
    classes = torch.tensor(segments.classes, device=points.time.device)
    weights = torch.tensor(segments.weights, dtype=torch.float32, device=points.time.device)
    targets = assign(points, borders, classes, len(video.labels), weights)
    if not len(segments.classes):
        known_background = not video.labels.any()
        return PointTargets(targets.classes, targets.distances, torch.full_like(points.time, float(known_background)))
    uncertain = _inside(points, grid_steps(segments.ignored)) & ~_inside(points, borders)
    return PointTargets(targets.classes, targets.distances, targets.weight.masked_fill(uncertain, 0.0))


def _inside(points: Points, stretches: Tensor) -> Tensor:
    """(P,) points and (N, 2) grid steps -> mask (P,) of the points in any of the stretches."""
    time = points.time[:, None]
    inside: Any = ((time >= stretches[:, 0]) & (time <= stretches[:, 1])).any(dim=1)
    return inside  # type: ignore[no-any-return]
