"""Snippet features to segments by regression: `Student`, its output and its targets.

A student is the second stage: it learns from pseudo segments made from a head's detections. Its clock is the grid's:
position 0 is the middle of snippet 0, and a length of 1 is one snippet's stride. `wtal.models.students` has
the contract of a student's file, and creates students by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wtal.models.regression.losses import distance_iou, focal, smoothed

_NEWEST_SHARE = 0.1
"""Share of the newest batch in the running number of positive points."""


@dataclass(frozen=True)
class Points:
    """The P points of all levels of a pyramid, level after level.

    `time`: (P,) in grid steps. `stride`: (P,) grid steps to the next point of the level. `low`, `high`: (P,) inclusive
    range of the longer of a point's two distances, in grid steps.
    """

    time: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class StudentOutput:
    """Output of a student for a batch.

    `mask`: (B, P), True for points inside a video. `logits`: (B, P, C), of independent sigmoids. `distances`:
    (B, P, 2) to the left and right border, in strides of the point's level; (B, P, C, 2) if borders depend on the
    class. `extras`: anything else that a reader of the paper needs, by name.
    """

    points: Points
    mask: Tensor
    logits: Tensor
    distances: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PointTargets:
    """Targets at points, of B videos or (without B) of one.

    `classes`: (B, P, C) in [0, 1]. `distances`: (B, P, 2) in strides of the point's level, 0 without a class. `weight`:
    (B, P) of a point's loss; a point of weight 0 is ignored.
    """

    classes: Tensor
    distances: Tensor
    weight: Tensor

    @classmethod
    def stack(cls, videos: "Sequence[PointTargets]") -> "PointTargets":
        """Stack the targets of single videos into those of a batch."""
        return cls(
            torch.stack([video.classes for video in videos]),
            torch.stack([video.distances for video in videos]),
            torch.stack([video.weight for video in videos]),
        )


class Student(nn.Module):
    """A network that predicts classes and borders at each point. Padding never affects the rest.

    `normalizer` is the running number of positive points by which losses are divided; a buffer, so that a resumed run
    continues with it.
    """

    num_classes: int
    normalizer: Tensor

    def __init__(self, num_classes: int, normalizer: float, label_smoothing: float, regression_weight: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing, self.regression_weight = label_smoothing, regression_weight
        self.register_buffer("normalizer", torch.tensor(normalizer, dtype=torch.float64))

    def forward(self, features: Tensor, mask: Tensor) -> StudentOutput:
        """Predict classes and borders at P points from features (B, T, D), mask (B, T)."""
        raise NotImplementedError

    def loss(self, output: StudentOutput, targets: PointTargets) -> dict[str, Tensor]:
        """Return the weighted loss terms `class` and `regression`, each a scalar.

        Both are sums over points divided by the normalizer, which in training first moves by a tenth towards this
        batch's number of positive points.
        """
        weight = targets.weight * output.mask
        positive = (targets.classes.sum(dim=-1) > 0) & (weight > 0)
        if self.training:
            self._count(positive)
        # The video, point and class of each positive pair of point and class.
        video, point, label = (targets.classes * positive[..., None]).nonzero(as_tuple=True)
        if output.distances.ndim == 3:
            video, point = positive.nonzero(as_tuple=True)
            distances = output.distances[video, point]
        else:
            distances = output.distances[video, point, label]
        target = targets.distances[video, point]
        entropy = focal(output.logits, smoothed(targets.classes, self.label_smoothing)) * weight[..., None]
        entropy = self.weigh_by_borders(entropy, (video, point, label), distances, target)
        regression = (distance_iou(distances, target) * weight[video, point]).sum()
        normalizer = self.normalizer.to(entropy.dtype)
        return {
            "class": entropy.sum() / normalizer,
            "regression": self.regression_weight * regression / normalizer,
        }

    def weigh_by_borders(
        self, entropy: Tensor, indices: tuple[Tensor, Tensor, Tensor], distances: Tensor, target: Tensor
    ) -> Tensor:
        """Weight a class loss (B, P, C) by the borders at positive `indices`; a hook, by default without effect."""
        return entropy

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return parameter groups for an optimizer: matrices decay; biases, norms and scales do not."""
        parameters = list(self.parameters())
        return [
            {"params": [value for value in parameters if value.ndim > 1], "weight_decay": weight_decay},
            {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
        ]

    def _count(self, positive: Tensor) -> None:
        count = positive.sum().clamp(min=1).to(self.normalizer.dtype)
        self.normalizer.mul_(1 - _NEWEST_SHARE).add_(_NEWEST_SHARE * count)

    def __call__(self, features: Tensor, mask: Tensor) -> StudentOutput:  # typed: nn.Module's own returns Any
        """Run `forward`."""
        output: StudentOutput = super().__call__(features, mask)
        return output
