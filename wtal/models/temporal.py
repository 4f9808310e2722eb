"""Operations over the snippets of videos of different length, exact for each: padding is neither seen nor computed.

Layers that look at one snippet at a time, or at its neighbours, run on *rows*: the real snippets of all videos, one
after another, (N, D). `pack` makes them from a padded (B, T, D) batch, `unpack` gives them back.
"""

from typing import Literal

import torch
from torch import Tensor, nn


def pack(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D), mask (B, T) -> (N, D): the real snippets, video after video."""
    return x.reshape(-1, x.shape[-1]).index_select(0, _places(mask))


def unpack(rows: Tensor, mask: Tensor) -> Tensor:
    """(N, D), mask (B, T) -> (B, T, D), zero where padded."""
    padded = rows.new_zeros((mask.numel(), rows.shape[-1])).index_copy(0, _places(mask), rows)
    return padded.reshape(*mask.shape, -1)


class TemporalConv(nn.Conv1d):
    """A convolution over time, zero beyond the ends of each video: rows (N, D), mask (B, T) -> rows (N, D_out).

    The kernel is odd and the output as long as the input. Its parameters are those of `torch.nn.Conv1d`.
    """

    def __init__(self, in_features: int, out_features: int, kernel: int = 1, bias: bool = True) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        super().__init__(in_features, out_features, kernel, padding=kernel // 2, bias=bias)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Run it."""
        reach = self.kernel_size[0] // 2
        # One product a tap: quicker on a CPU than torch's own convolution, and videos never meet.
        result = nn.functional.linear(rows, self.weight[:, :, reach], self.bias)
        for shift in range(1, min(reach, len(rows) - 1) + 1):
            before, after = self.weight[:, :, reach - shift], self.weight[:, :, reach + shift]
            same = _same_video(mask, shift)[:, None]
            left = nn.functional.linear(rows[:-shift], before) * same
            right = nn.functional.linear(rows[shift:], after) * same
            result = result + nn.functional.pad(left, (0, 0, shift, 0)) + nn.functional.pad(right, (0, 0, 0, shift))
        return result


def masked_topk_mean(
    values: Tensor, mask: Tensor, ratio: int, rounding: Literal["down", "up"] = "down", lowest: bool = False
) -> Tensor:
    """(B, T, C), (B, T) -> (B, C): mean of the k = max(1, length / ratio) largest values of each class over time.

    k is rounded `down` or `up`; with `lowest` it is the mean of the smallest ones.
    """
    sign = -1.0 if lowest else 1.0
    lengths = mask.sum(dim=1)
    counts = torch.clamp((lengths + (ratio - 1 if rounding == "up" else 0)) // ratio, min=1)
    ordered = (sign * values).masked_fill(~mask[..., None], -torch.inf).topk(int(counts.max()), dim=1).values
    kept = torch.arange(ordered.shape[1], device=values.device)[None, :] < counts[:, None]
    return sign * ordered.masked_fill(~kept[..., None], 0.0).sum(dim=1) / counts[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T, ...), (B, T) -> (B, ...): mean over real snippets."""
    weights = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
    return values.masked_fill(~weights, 0.0).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, T, ...), (B, T) -> the same shape: softmax over the real snippets of each video, 0 where padded."""
    weights = mask.reshape(*mask.shape, *[1] * (logits.ndim - 2))
    return logits.masked_fill(~weights, -torch.inf).softmax(dim=1).masked_fill(~weights, 0.0)


def masked_range(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, ...), (B, T) -> minimum and maximum over real snippets, each (B, 1, ...)."""
    padding = ~mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
    low = values.masked_fill(padding, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(padding, -torch.inf).amax(dim=1, keepdim=True)
    return low, high


def _places(mask: Tensor) -> Tensor:
    return mask.reshape(-1).nonzero()[:, 0]


def _same_video(mask: Tensor, shift: int) -> Tensor:
    """(B, T) -> (N - shift,): whether row n and row n + shift are of one video."""
    video = torch.arange(len(mask), device=mask.device).repeat_interleave(mask.sum(dim=1))
    return video[shift:] == video[:-shift]
