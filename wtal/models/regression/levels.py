"""Levels of a temporal pyramid: computed and real positions."""

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
    video. If both are the same tensor, padding does not exist, which is equivalent to a mask after every operation;
    authors' forms compute padding as well and mask it after some operations.
    """

    computed: Tensor
    real: Tensor

    @classmethod
    def first(cls, mask: Tensor, padding: bool) -> "Level":
        """Create the level of stride 1 from a mask (B, T), with or without rows for padding."""
        return cls(torch.ones_like(mask) if padding else mask, mask)

    @property
    def computes_padding(self) -> bool:
        """True if there are rows for padding."""
        return self.computed is not self.real

    @cached_property
    def videos(self) -> Tensor:
        """Index of the video of each row, (N,)."""
        return self.computed.nonzero()[:, 0]

    @cached_property
    def rows_are_real(self) -> Tensor:
        """Mask (N, 1), False for rows of padding."""
        return self.real.reshape(-1)[self.computed.reshape(-1)][:, None]

    def halved(self) -> "Level":
        """Return the level with every second position, starting with the first."""
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
        """Rows (N, E) -> rows of the halved level: the largest of three computed positions."""
        x = self.unpack(rows).masked_fill(~self.computed[..., None], -torch.inf)
        largest = max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
        return self.halved().pack(largest)


def side_by_side(levels: Sequence[Level]) -> Level:
    """Combine L levels of B videos into one of L * B; its rows are those of the levels, one level after another."""
    length = levels[0].real.shape[1]

    def stacked(masks: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(mask, (0, length - mask.shape[1])) for mask in masks])

    real = stacked([level.real for level in levels])
    padded = levels[0].computes_padding
    return Level(stacked([level.computed for level in levels]) if padded else real, real)
