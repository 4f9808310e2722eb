"""Points of a pyramid, and the assignment of segments to them.

Source: the center sampling and the ranges of ActionFormer (Zhang, Wu, Li; ECCV 2022), section 3.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wtal.errors import UsageError
from wtal.models.student import Points, PointTargets

FARTHEST = 10000.0
"""End of the last level's range, in grid steps."""
_TIE = 1e-3
"""Grid steps by which segments at a point may exceed the shortest and still add their classes."""


def pyramid_points(lengths: Sequence[int], first_range: float, device: torch.device | None = None) -> Points:
    """Return the points of a pyramid, from the number of positions per level, each with twice the previous stride.

    The first level is for distances of up to `first_range` grid steps, each further one up to twice the previous limit,
    the last for all the rest.
    """
    time, stride, low, high = [], [], [], []
    for level, length in enumerate(lengths):
        step = 2**level
        time.append(torch.arange(length, device=device, dtype=torch.float32) * step)
        stride.append(torch.full_like(time[-1], step))
        low.append(torch.full_like(time[-1], first_range * step / 2 if level else 0.0))
        high.append(torch.full_like(time[-1], first_range * step if level < len(lengths) - 1 else FARTHEST))
    return Points(*(torch.cat(values) for values in (time, stride, low, high)))


def assign(
    points: Points,
    segments: Tensor,
    labels: Tensor,
    num_classes: int,
    weights: Tensor | None = None,
    radius: float = 1.5,
    ignored: Tensor | None = None,
) -> PointTargets:
    """Assign segments (N, 2) in grid steps, class indices (N,), weights (N,) of one video to its points.

    A segment is assigned to a point strictly inside it, at most `radius` strides from its middle, if the longer of the
    distances to both borders is in the point's range. If there are several, the shortest wins; equally long ones
    add their classes. `ignored` (M, 2): points strictly inside these, without a segment, get the weight 0.

    Raises:
        UsageError: when segments, labels and weights differ in number, or a label is not a class.
    """
    _check(segments, labels, weights, num_classes)
    time, stride = points.time, points.stride
    weight = torch.ones_like(time)
    if ignored is not None and len(ignored):
        weight[_inside(time, ignored).any(dim=1)] = 0.0
    classes = time.new_zeros(len(time), num_classes)
    distances = time.new_zeros(len(time), 2)
    if not len(segments):
        return PointTargets(classes, distances, weight)
    segments = segments.to(time)
    left, right = time[:, None] - segments[:, 0], segments[:, 1] - time[:, None]  # (P, N) each
    longer = torch.maximum(left, right)
    middle = segments.mean(dim=1)
    reach = radius * stride[:, None]
    near = (time[:, None] > middle - reach) & (time[:, None] < middle + reach)
    candidate = near & _inside(time, segments)
    candidate &= (longer >= points.low[:, None]) & (longer <= points.high[:, None])
    length = (segments[:, 1] - segments[:, 0]).expand_as(left).masked_fill(~candidate, torch.inf)
    shortest, winner = length.min(dim=1)
    positive = shortest.isfinite()
    tied = (candidate & (length <= shortest[:, None] + _TIE)).to(time.dtype)  # (P, N)
    classes = (tied @ torch.nn.functional.one_hot(labels.to(time.device), num_classes).to(time.dtype)).clamp(max=1.0)
    both = torch.stack([left.gather(1, winner[:, None]), right.gather(1, winner[:, None])], dim=-1)[:, 0]
    distances = (both / stride[:, None]).masked_fill(~positive[:, None], 0.0)
    own = torch.ones_like(time) if weights is None else weights.to(time)[winner]
    return PointTargets(classes, distances, torch.where(positive, own, weight))


def _inside(time: Tensor, segments: Tensor) -> Tensor:
    """(P,), (N, 2) -> (P, N): strictly between both borders."""
    return (time[:, None] > segments[:, 0].to(time)) & (time[:, None] < segments[:, 1].to(time))


def _check(segments: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int) -> None:
    if segments.ndim != 2 or segments.shape[1] != 2 or len(labels) != len(segments):
        raise UsageError(f"wanted segments (N, 2) and labels (N,), got {tuple(segments.shape)}, {tuple(labels.shape)}")
    if weights is not None and len(weights) != len(segments):
        raise UsageError(f"wanted a weight for each of {len(segments)} segments, got {len(weights)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise UsageError(f"labels must be from 0 to {num_classes - 1}, got {int(labels.min())} to {int(labels.max())}")
