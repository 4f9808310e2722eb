"""Snippet features to segments by regression: `Student`, its output and targets, and its creation by name.

A student is the second stage: it learns from pseudo segments made from a head's detections. Its clock is the grid's:
position 0 is the middle of snippet 0, and a length of 1 is one snippet's stride. `wtal.models.students.StudentLeaf` is
the contract of a student's file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wtal.errors import UsageError
from wtal.models.regression.losses import distance_iou, focal, smoothed
from wtal.models.students import STUDENTS, StudentLeaf
from wtal.registry import suggest

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


def create_student(
    name: str,
    num_classes: int,
    feature_dims: Mapping[str, int] | int,
    *,
    authors: bool = False,
    form: str | None = None,
    **config: Any,
) -> Student:
    """Create the student `name` for C = `num_classes` and D features, or streams whose widths sum to D.

    With `authors` it behaves as the authors' code, quirks included. `config` holds the student's own settings, which
    override those of `form` (`thumos14`, `activitynet-1.3`), or ours.

    Raises:
        UsageError: when there is no such student or form, no class, or no features.
        ConfigError: when a setting is unknown or invalid.
    """
    module = STUDENTS.load(name)
    width = feature_dims if isinstance(feature_dims, int) else sum(feature_dims.values())
    if num_classes < 1 or width < 1:
        raise UsageError(f"a student needs at least one class and one feature, got {num_classes} and {width}")
    settings = {**(form_settings(module, name, form) if form else {}), **config}
    return module.create(num_classes, width, module.Config.parse(settings, f"student {name}"), authors)


def load_author_student(
    name: str, state_dict: Mapping[str, Any], num_classes: int, form: str = "thumos14", **config: Any
) -> Student:
    """Load a student from the authors' own state dict, in eval mode; implies `authors=True`.

    Widths and depths are read off the tensors. Settings that cannot be inferred from them (the window, the padded
    length) are those of `form`, or given in `config`.

    Raises:
        UsageError: when there is no such student or form, or no class.
        ConfigError: when a setting is unknown, invalid, or contradicts the tensors.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    module = STUDENTS.load(name)
    if num_classes < 1:
        raise UsageError(f"a student needs at least one class, got {num_classes}")
    form_settings(module, name, form)
    return module.from_authors(state_dict, num_classes, form, config).eval()


def form_settings(module: StudentLeaf, name: str, form: str) -> Mapping[str, Any]:
    """Return the settings of a form of the student `name`.

    Raises:
        UsageError: when it has no such form, with the nearest match.
    """
    if form not in module.FORMS:
        raise UsageError(f"student {name} has no form {form!r}; {suggest(form, module.FORMS)}")
    return module.FORMS[form]
