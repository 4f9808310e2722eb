"""Losses at points: focal loss of classes, distance IoU of borders."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_ALPHA, _GAMMA = 0.25, 2.0
_SMALLEST = 1e-8


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """(..., C), (..., C) in [0, 1] -> (..., C): focal loss of C sigmoids, alpha 0.25 and gamma 2.

    Source: Lin et al., ICCV 2017, equation 5.
    """
    logits, targets = logits.float(), targets.float()
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    correct = p * targets + (1 - p) * (1 - targets)
    alpha = _ALPHA * targets + (1 - _ALPHA) * (1 - targets)
    return alpha * (1 - correct) ** _GAMMA * entropy


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """(..., C) -> (..., C): spread a share `smoothing` of each label over C + 1 classes."""
    return targets if smoothing == 0 else targets * (1 - smoothing) + smoothing / (targets.shape[-1] + 1)


def iou(distances: Tensor, targets: Tensor) -> Tensor:
    """Two distances (..., 2) from one point to the left and right border -> (...,) intersection over union."""
    distances, targets = distances.float(), targets.float()
    shared = torch.minimum(distances, targets).sum(dim=-1)
    return shared / (distances.sum(dim=-1) + targets.sum(dim=-1) - shared).clamp(min=_SMALLEST)


def distance_iou(distances: Tensor, targets: Tensor) -> Tensor:
    """(..., 2), (..., 2) -> (...,): 1 - IoU + (distance between the centres / length of the hull)^2.

    Source: Zheng et al., AAAI 2020, equation 7, in one dimension.
    """
    distances, targets = distances.float(), targets.float()
    hull = torch.maximum(distances, targets).sum(dim=-1).clamp(min=_SMALLEST)
    difference = distances - targets
    centres = (difference[..., 1] - difference[..., 0]) / 2
    return 1 - iou(distances, targets) + (centres / hull) ** 2
