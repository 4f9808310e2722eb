"""Levels of a temporal pyramid: where their positions are, and which of them are real."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from wtal.models.layers.temporal import pack, unpack


@dataclass(frozen=True)
class Level:
    """Positions of B videos at one stride.

    `computed`: (B, T) positions that a network computes, its rows (N, E) in this order. `real`: (B, T) positions of a
    video. Where both are one tensor padding does not exist, which is the same as a mask after every operation; authors'
    forms compute padding as well and hide it here and there.
    """

    computed: Tensor
    real: Tensor

    @classmethod
    def first(cls, mask: Tensor, padding: bool) -> "Level":
        """Mask (B, T) -> the level of stride 1, with or without rows for padding."""
        return cls(torch.ones_like(mask) if padding else mask, mask)

    @property
    def computes_padding(self) -> bool:
        """True where there are rows that are no position of a video."""
        return self.computed is not self.real

    @cached_property
    def videos(self) -> Tensor:
        """(N,) the video of each row."""
        return self.computed.nonzero()[:, 0]

    @cached_property
    def rows_are_real(self) -> Tensor:
        """(N, 1), False where a row is padding."""
        return self.real.reshape(-1)[self.computed.reshape(-1)][:, None]

    def halved(self) -> "Level":
        """Every second position, the first of them included."""
        real = self.real[:, ::2]
        return Level(self.computed[:, ::2] if self.computes_padding else real, real)

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, E) -> rows (N, E)."""
        return pack(x, self.computed)

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows (N, E) -> (B, T, E), zero where nothing is computed."""
        return unpack(rows, self.computed)

    def hide(self, rows: Tensor) -> Tensor:
        """Rows (N, E) -> (N, E), zero where padded."""
        return rows * self.rows_are_real if self.computes_padding else rows

    def pooled(self, rows: Tensor) -> Tensor:
        """Rows (N, E) -> rows of the halved level: the largest of three; what is not computed is not seen."""
        x = self.unpack(rows).masked_fill(~self.computed[..., None], -torch.inf)
        largest = max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
        return self.halved().pack(largest)


def side_by_side(levels: Sequence[Level]) -> Level:
    """L levels of B videos -> one of L * B; its rows are those of the levels, one level after another."""
    length = levels[0].real.shape[1]

    def stacked(masks: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(mask, (0, length - mask.shape[1])) for mask in masks])

    real = stacked([level.real for level in levels])
    padded = levels[0].computes_padding
    return Level(stacked([level.computed for level in levels]) if padded else real, real)
