"""TriDet: a pyramid of scalable-granularity blocks whose borders are relative (Shi, Zhong, Cao, Ma et al.; CVPR 2023).

The frame is ActionFormer's. A block applies depthwise convolutions to its level, with n = LN(x), all products being
channel-wise:

    y = fc(n) * ReLU(g(mean over time of n)) + (narrow(n) + wide(n)) * psi(n) + n
    x <- x + a * y,  x <- x + b * MLP(GroupNorm(x))

with pooling to every second position before each block of the branch. Two more heads predict for each class how likely
a position is a start, or an end. A point's left distance is the mean of the distances 0 to `bins`, under the softmax of
the sum of the starts' logits at the positions to its left and its own logits for each distance; the right one likewise.
So borders depend on the class. The class loss of a positive point is multiplied by IoU^p.

Differences from the authors' code, whose behaviour `authors=True` restores:

- Their blocks compute padding: it enters the mean over time and GroupNorm's statistics, and the output depends on the
  amount of padding. Here both are over real positions, so that a video in a batch equals the video alone.
- Positions outside the video, or padded, enter their softmax with logits of 0, while real ones are near -4.6: borders
  lean outwards at both ends. Here the softmax is over positions of the video.
- Their class loss has a gradient through the IoU, which lowers the IoU of badly classified points; here it has none.
- They pad every video to `max_length`, longer ones to a multiple of the last level's stride.
- On THUMOS14 their depthwise convolutions start at zero (`kernel_deviation`). Each is multiplied by another one, so
  that no gradient ever arises: y = n. Here they start at random.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import group_norm, pad

from wtal.errors import ConfigError
from wtal.models.layers.temporal import masked_mean
from wtal.models.regression.author_keys import (
    author_config,
    author_tensors,
    block_names,
    frame_names,
    head_names,
    load_author_tensors,
)
from wtal.models.regression.layers import RARE, DepthwiseConv, PointHead, Residual, mlp
from wtal.models.regression.levels import Level
from wtal.models.regression.losses import iou
from wtal.models.regression.pyramid import PyramidConfig, PyramidStudent, joined, per_level, refuse_even, to_batch
from wtal.models.student import Points, StudentOutput

_GROUPS = 16


class Config(PyramidConfig):
    """Defaults are the public code's for THUMOS14 unless noted."""

    mlp_width: int = Field(768, ge=1)
    """Hidden width of a block's MLP."""
    narrow: int = Field(1, ge=1)
    """Kernel of the narrow convolution and psi, odd."""
    wide: int = Field(11, ge=1)
    """Kernel of the wide convolution, odd. Theirs: 5 (narrow + 1), plus 1 if that is even."""
    kernel_deviation: float = Field(0.1, ge=0)
    """Standard deviation of the initial weights of a block's depthwise convolutions; ours. Theirs: 0."""
    bins: int = Field(16, ge=1)
    """Largest distance to a border, in strides of the level."""
    iou_power: float = Field(0.2, ge=0)
    """p, exponent of the IoU in the class loss. ActivityNet: 1."""
    input_noise: float = Field(5e-4, ge=0)
    """Standard deviation of noise on the features in training."""


FORMS: dict[str, dict[str, Any]] = {
    "thumos14": {"width": 512, "stem_blocks": 2, "branch_blocks": 5, "kernel_deviation": 0.0}
}
"""Settings of the authors' own forms."""


class Block(nn.Module):
    """Sum of a position, its neighbours and the whole video, and an MLP, each added to its input, at stride 1 or 2."""

    def __init__(self, config: Config, stride: int) -> None:
        super().__init__()
        width = config.width
        self.stride = stride
        self.norm, self.group_norm = nn.LayerNorm(width), nn.GroupNorm(_GROUPS, width)
        self.fc, self.whole = DepthwiseConv(width, 1, bias=True), DepthwiseConv(width, 1, bias=True)
        self.psi, self.narrow = (DepthwiseConv(width, config.narrow, bias=True) for _ in range(2))
        self.wide = DepthwiseConv(width, config.wide, bias=True)
        for conv in (self.fc, self.whole, self.psi, self.narrow, self.wide):
            nn.init.normal_(conv.weight, 0.0, config.kernel_deviation)
        self.mlp = mlp(width, config.mlp_width, config.dropout)
        # The authors scale and drop branches only after the stem.
        scaled = stride == 2
        self.first_path = Residual(width, config.drop_path, config.residual_scale) if scaled else None
        self.second_path = Residual(width, config.drop_path, config.residual_scale) if scaled else None

    def forward(self, rows: Tensor, level: Level) -> tuple[Tensor, Level]:
        """Rows (N, E) of `level` -> rows of the output level, and that level."""
        if self.stride == 2:
            rows, level = level.pooled(rows), level.halved()
        n = level.unpack(self.norm(rows))
        mean = masked_mean(n, level.computed)[:, None]
        local = (self.narrow(n) + self.wide(n)) * self.psi(n)
        y = level.pack(self.fc(n) * torch.relu(self.whole(mean)) + local + n)
        rows = level.hide(rows) + (y if self.first_path is None else self.first_path(y, level))
        z = self.mlp(self._normed_by_groups(rows, level))
        return rows + (z if self.second_path is None else self.second_path(z, level)), level

    def _normed_by_groups(self, rows: Tensor, level: Level) -> Tensor:
        """Rows (N, E) -> (N, E): normed jointly over each video's positions and a group's channels."""
        norm = self.group_norm
        x = level.unpack(rows)
        if level.computes_padding:
            y = group_norm(x.transpose(1, 2), _GROUPS, norm.weight, norm.bias, norm.eps)
            return level.pack(y.transpose(1, 2))
        grouped = x.reshape(*x.shape[:2], _GROUPS, -1)
        mean = masked_mean(grouped, level.real).mean(dim=-1)[:, None, :, None]
        centred = grouped - mean
        variance = masked_mean(centred**2, level.real).mean(dim=-1)[:, None, :, None]
        y = (centred / (variance + norm.eps).sqrt()).reshape(x.shape)
        return level.pack(y) * norm.weight + norm.bias


class TriDet(PyramidStudent):
    """`logits` (B, P, C) and `distances` (B, P, C, 2)."""

    def __init__(self, num_classes: int, in_features: int, config: Config, authors: bool) -> None:
        strides = [1] * config.stem_blocks + [2] * config.branch_blocks
        super().__init__(num_classes, in_features, config, [Block(config, stride) for stride in strides], authors)
        self.config = config
        self.starts = PointHead(config.width, num_classes, config.head_depth, RARE)
        self.ends = PointHead(config.width, num_classes, config.head_depth, RARE)
        self.borders = PointHead(config.width, 2 * (config.bins + 1), config.head_depth)
        self.scales = nn.ParameterList(torch.ones(()) for _ in range(config.branch_blocks + 1))

    def forward(self, features: Tensor, mask: Tensor) -> StudentOutput:
        """(B, T, D), mask (B, T) -> logits (B, P, C), distances (B, P, C, 2); training adds noise to the features."""
        if self.training and self.config.input_noise:
            features = features + self.config.input_noise * torch.randn_like(features)
        return super().forward(features, mask)

    def respond(self, rows: list[Tensor], levels: list[Level], points: Points) -> StudentOutput:
        """Rows (N, E) of each level -> the output; `extras`: bins (B, P, 2 (bins + 1)), starts, ends (B, P, C)."""
        all_rows, all_levels = joined(rows, levels)
        bins = to_batch(torch.relu(self.borders(all_rows, all_levels) * per_level(list(self.scales), levels)), levels)
        starts, ends = (to_batch(head(all_rows.detach(), all_levels), levels) for head in (self.starts, self.ends))
        return StudentOutput(
            points=points,
            mask=torch.cat([level.real for level in levels], dim=1),
            logits=to_batch(self.classes(all_rows, all_levels), levels),
            distances=self._distances(bins, starts, ends, levels),
            extras={"bins": bins, "starts": starts, "ends": ends},
        )

    def weigh_by_borders(
        self, entropy: Tensor, indices: tuple[Tensor, Tensor, Tensor], distances: Tensor, target: Tensor
    ) -> Tensor:
        """Multiply a class loss (B, P, C) at positive points by IoU^p."""
        factor = torch.ones_like(entropy)
        factor[indices] = iou(distances if self.authors else distances.detach(), target) ** self.config.iou_power
        return entropy * factor

    def divisor(self) -> int:
        """Return the number of positions of the first level per window of the last."""
        return int(2**self.config.branch_blocks * max(1, self.config.narrow // 2 * 2))

    def _distances(self, bins: Tensor, starts: Tensor, ends: Tensor, levels: list[Level]) -> Tensor:
        """(B, P, 2 (bins + 1)), (B, P, C) twice -> (B, P, C, 2): mean distances, level by level."""
        lengths = [level.real.shape[1] for level in levels]
        count = self.config.bins + 1
        parts = []
        by_level = zip(levels, *(torch.split(x, lengths, dim=1) for x in (bins, starts, ends)), strict=True)
        for level, own, start, end in by_level:
            real = None if self.authors else level.real
            # Backwards in time, left is right. The first of the left side's own logits is that of the farthest
            # distance.
            backwards = None if real is None else real.flip(1)
            left = mean_distance(own[..., :count].flip(1, 2), start.flip(1), backwards).flip(1)
            parts.append(torch.stack([left, mean_distance(own[..., count:], end, real)], dim=-1))
        return torch.cat(parts, dim=1)


def mean_distance(own: Tensor, border: Tensor, real: Tensor | None) -> Tensor:
    """Own logits (B, T, K) of distances 0 to K - 1, border logits (B, T, C), real (B, T) -> (B, T, C).

    The mean distance under the softmax of their sums: at position t, distance j has its own logit plus the border's at
    t + j. Positions that are not `real` are excluded; without `real`, positions beyond T have a logit of 0.
    """
    count = own.shape[2]
    ahead = pad(border, (0, 0, 0, count - 1)).unfold(1, count, 1)  # (B, T, C, K)
    logits = ahead + own[:, :, None]
    if real is not None:
        inside = pad(real, (0, count - 1)).unfold(1, count, 1)  # (B, T, K)
        inside = inside | ~real[..., None]  # the output at padding is finite and meaningless
        logits = logits.masked_fill(~inside[:, :, None], -torch.inf)
    distance = torch.arange(count, device=own.device, dtype=own.dtype)
    return logits.softmax(dim=-1) @ distance


def create(num_classes: int, in_features: int, config: Config, authors: bool) -> TriDet:
    """Create a TriDet over features of D = `in_features`.

    Raises:
        ConfigError: when a kernel is even, or the width is not a multiple of the norm's groups.
    """
    refuse_even("narrow", config.narrow)
    refuse_even("wide", config.wide)
    if config.width % _GROUPS:
        raise ConfigError(f"width must be a multiple of {_GROUPS}, got {config.width}")
    return TriDet(num_classes, in_features, config, authors)


def from_authors(state_dict: Mapping[str, Any], num_classes: int, form: str, config: Mapping[str, Any]) -> TriDet:
    """Load a TriDet from the authors' checkpoint; widths, depths, kernels and bins are read off its tensors.

    `max_length` is not in it: it is that of `form`, or of `config`.
    """
    plain, in_features, inferred = author_tensors(state_dict, "TriDet")
    sources = {"narrow": ("convw.weight", -1), "wide": ("convkw.weight", -1), "mlp_width": ("mlp.0.weight", 0)}
    for name, (key, axis) in sources.items():
        tensor = plain.get(f"backbone.stem.0.{key}", plain.get(f"backbone.branch.0.{key}"))
        if tensor is not None:
            inferred[name] = tensor.shape[axis]
    bins = plain.get("reg_head.offset_head.conv.bias")
    if bins is not None and len(bins) > 2:
        inferred["bins"] = len(bins) // 2 - 1
    student = create(
        num_classes, in_features, author_config(Config, FORMS[form], config, inferred, "student tridet"), authors=True
    )
    load_author_tensors(student, plain, _names(student.config), "TriDet")
    return student


def _names(config: Config) -> dict[str, str]:
    """Map the authors' keys to ours."""
    layers = {"ln": "norm", "gn": "group_norm", "fc": "fc", "psi": "psi", "convw": "narrow", "convkw": "wide"}
    layers |= {"global_fc": "whole", "mlp.0": "mlp.0", "mlp.2": "mlp.3"}
    names = frame_names(config) | block_names(config, layers, {})
    names |= head_names("reg_head", "offset_head", "borders", config.head_depth)
    for module, name in (("start_head", "starts"), ("end_head", "ends")):
        names |= head_names(module, "cls_head", name, config.head_depth)
    paths = {"drop_path_out.scale": "first_path.scale", "drop_path_mlp.scale": "second_path.scale"}
    branch = range(config.branch_blocks)
    return names | {f"backbone.branch.{i}.{key}": f"branch.{i}.{name}" for i in branch for key, name in paths.items()}
