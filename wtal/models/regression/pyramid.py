"""A student whose levels halve the positions: embedding, blocks, a norm per level, heads shared by all levels."""

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from wtal import config
from wtal.errors import ConfigError
from wtal.models.regression.layers import RARE, PointHead, Trunk
from wtal.models.regression.levels import Level, side_by_side
from wtal.models.regression.points import pyramid_points
from wtal.models.student import Points, Student, StudentOutput


class PyramidConfig(config.Config):
    """Settings common to all pyramids. Defaults are ours, followed by the public codes' for THUMOS14."""

    width: int = Field(256, ge=1)
    """Channels E of all levels and heads. Theirs: 512; on ActivityNet: 256."""
    embedding_depth: int = Field(2, ge=1)
    """Convolutions over three positions before the stem."""
    head_depth: int = Field(2, ge=0)
    """Convolutions over three positions before the last one of each head."""
    stem_blocks: int = Field(1, ge=0)
    """Blocks of stride 1. Theirs: 2."""
    branch_blocks: int = Field(4, ge=0)
    """Blocks of stride 2, each of which adds a level. Theirs: 5, for four times as many snippets per second."""
    drop_path: float = Field(0.1, ge=0, lt=1)
    """Probability of dropping a block's branch in training, per video."""
    residual_scale: float = Field(1e-4, gt=0)
    """Initial value of the learnt scales of a block's branches: a block starts as the identity."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside blocks."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of feature channels, over the whole video; ours, for small collections. The papers have none."""
    first_range: float = Field(4.0, gt=0)
    """Maximum distance of the first level, in grid steps; doubled at each further level, unlimited at the last."""
    position_table: bool = False
    """Add sines of the position to the embedding. ActivityNet: on."""
    max_length: int = Field(2304, ge=1)
    """Number of snippets to which the authors' form pads every video, and of its position table. ActivityNet: 192."""
    normalizer: float = Field(100.0, gt=0)
    """Initial value of the running number of positive points, by which losses are divided. ActivityNet: 200."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label to spread over C + 1 classes. ActivityNet: 0.1."""
    regression_weight: float = Field(1.0, ge=0)
    """Weight of the borders' loss. ActivityNet: 2."""


class PyramidStudent(Student):
    """Frame of a student; a leaf supplies its blocks, and the output for the features of all levels.

    Blocks are called with rows and their level, and return the new rows and level.
    """

    def __init__(
        self, num_classes: int, in_features: int, config: PyramidConfig, blocks: Sequence[nn.Module], authors: bool
    ) -> None:
        super().__init__(num_classes, config.normalizer, config.label_smoothing, config.regression_weight)
        self.settings, self.authors = config, authors
        self.input_dropout = nn.Dropout1d(config.input_dropout)
        self.embedding = Trunk(in_features, config.width, config.embedding_depth)
        self.stem = nn.ModuleList(blocks[: config.stem_blocks])
        self.branch = nn.ModuleList(blocks[config.stem_blocks :])
        self.neck = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.branch_blocks + 1))
        self.classes = PointHead(config.width, num_classes, config.head_depth, RARE)

    def forward(self, features: Tensor, mask: Tensor) -> StudentOutput:
        """(B, T, D), mask (B, T) -> logits (B, P, C) and distances at the points of all levels.

        The authors' form pads T: its output has more points, and its `mask` marks the real ones.
        """
        if self.authors:
            features, mask = self._padded(features, mask)
        level = Level.first(mask, padding=self.authors)
        rows = level.pack(self.input_dropout(features.transpose(1, 2)).transpose(1, 2))
        rows = self._with_positions(self.embedding(rows, level), level)
        for block in self.stem:
            rows, level = block(rows, level)
        levels, level_rows = [level], [rows]
        for block in self.branch:
            rows, level = block(rows, level)
            levels.append(level)
            level_rows.append(rows)
        normed = [norm(rows) for norm, rows in zip(self.neck, level_rows, strict=True)]
        points = pyramid_points([level.real.shape[1] for level in levels], self.settings.first_range, mask.device)
        return self.respond(normed, levels, points)

    def respond(self, rows: list[Tensor], levels: list[Level], points: Points) -> StudentOutput:
        """Compute the output from rows (N, E) of each level."""
        raise NotImplementedError

    def divisor(self) -> int:
        """Return the number to a multiple of which the authors' form pads the snippets."""
        raise NotImplementedError

    def _padded(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        length = max(mask.shape[1], self.settings.max_length)
        padding = -(-length // self.divisor()) * self.divisor() - mask.shape[1]
        return pad(features.masked_fill(~mask[..., None], 0.0), (0, 0, 0, padding)), pad(mask, (0, padding))

    def _with_positions(self, rows: Tensor, level: Level) -> Tensor:
        if not self.settings.position_table:
            return rows
        length, longest = level.real.shape[1], self.settings.max_length
        if self.authors and length > longest:
            table = sines(longest, rows.shape[1], rows.device).t()[None]
            table = interpolate(table, length, mode="linear", align_corners=False)[0].t()
        else:
            table = sines(length, rows.shape[1], rows.device)
        return rows + level.hide(level.pack(table.expand(len(level.real), -1, -1)))


def sines(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """(T, E): alternating sines and cosines of each position, divided by the root of E (Vaswani et al., 2017)."""
    channel = torch.arange(width, device=device, dtype=torch.float64)
    position = torch.arange(length, device=device, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (2 * (channel // 2) / width)
    return (torch.where(channel % 2 == 0, angle.sin(), angle.cos()) / math.sqrt(width)).float()


def to_batch(rows: Tensor, levels: Sequence[Level]) -> Tensor:
    """Rows (N, E) of concatenated levels -> (B, P, E), level after level."""
    parts = torch.split(rows, [len(level.videos) for level in levels])
    return torch.cat([level.unpack(part) for level, part in zip(levels, parts, strict=True)], dim=1)


def joined(rows: Sequence[Tensor], levels: Sequence[Level]) -> tuple[Tensor, Level]:
    """Concatenate the rows of each level; return them with their combined level."""
    return torch.cat(list(rows)), side_by_side(levels)


def per_level(values: Sequence[Tensor], levels: Sequence[Level]) -> Tensor:
    """Expand one number per level to (N, 1), for each row of the concatenated levels."""
    return torch.cat([value.expand(len(level.videos), 1) for value, level in zip(values, levels, strict=True)])


def refuse_even(name: str, value: int) -> None:
    """Refuse an even window size.

    Raises:
        ConfigError: when it is even.
    """
    if value % 2 == 0:
        raise ConfigError(f"{name} must be odd, got {value}")
