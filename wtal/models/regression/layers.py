"""Layers shared by pyramids. They run on rows (N, E) of one level, or of several levels concatenated."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from wtal.models.layers.temporal import Dropout, TemporalConv
from wtal.models.regression.levels import Level

RARE = -math.log((1 - 0.01) / 0.01)
"""Logit of 0.01: the initial output for rare classes (Lin et al., ICCV 2017, section 3.3)."""


class DepthwiseConv(nn.Module):
    """Depthwise convolution over time, zero beyond the ends of the computed positions.

    Initialized like `torch.nn.Conv1d`, but with zero bias.
    """

    def __init__(self, width: int, kernel: int, bias: bool) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.weight = nn.Parameter(torch.empty(width, 1, kernel).uniform_(-1, 1) / math.sqrt(kernel))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """(B, T, E), zero where nothing is computed -> (B, ceil(T / stride), E)."""
        width, _, kernel = self.weight.shape
        if kernel == 1 and stride == 1:
            scaled = x * self.weight[:, 0, 0]
            return scaled if self.bias is None else scaled + self.bias
        y = conv1d(x.transpose(1, 2), self.weight, self.bias, stride, kernel // 2, groups=width)
        return y.transpose(1, 2)


class Trunk(nn.Module):
    """Convolutions over three positions without biases, each followed by a norm and ReLU."""

    def __init__(self, in_features: int, width: int, count: int) -> None:
        super().__init__()
        widths = [in_features] + [width] * count
        self.convs = nn.ModuleList(TemporalConv(a, width, 3, bias=False) for a in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))

    def forward(self, rows: Tensor, level: Level) -> Tensor:
        """Rows (N, D) -> rows (N, E)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            rows = torch.relu(norm(level.hide(conv(rows, level.computed))))
        return rows


class PointHead(nn.Module):
    """A trunk and a last convolution, on the rows of all levels: (N, E) -> (N, outputs), zero where padded."""

    def __init__(self, width: int, outputs: int, depth: int, first_answer: float = 0.0) -> None:
        super().__init__()
        self.trunk = Trunk(width, width, depth)
        self.last = TemporalConv(width, outputs, 3)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, first_answer)

    def forward(self, rows: Tensor, level: Level) -> Tensor:
        """Rows (N, E) -> (N, outputs)."""
        return level.hide(self.last(self.trunk(rows, level), level.computed))


class Residual(nn.Module):
    """Rows of a branch (N, E), scaled by a learnt factor per channel; training sometimes drops all rows of a video."""

    def __init__(self, width: int, drop: float, scale: float) -> None:
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, rows: Tensor, level: Level) -> Tensor:
        """Rows (N, E) -> rows (N, E)."""
        rows = rows * self.scale
        if not self.training or self.drop == 0:
            return rows
        survives = torch.rand(len(level.real), 1, device=rows.device) >= self.drop
        return rows * (survives / (1 - self.drop)).to(rows.dtype)[level.videos]


def mlp(width: int, inner: int, dropout: float = 0.0) -> nn.Sequential:
    """Two layers with GELU between them and dropout after each: rows (N, E) -> rows (N, E)."""
    layers = nn.Sequential(
        nn.Linear(width, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, width), Dropout(dropout)
    )
    for layer in (layers[0], layers[3]):
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers
