"""Operations over the snippets of videos of different length, exact for each: padding is neither read nor computed.

Layers on single snippets, or on a snippet and its neighbours, run on *rows*: the real snippets of all videos, one after
another, (N, D). `pack` makes them from a padded (B, T, D) batch, `unpack` restores the batch.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn


def pack(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D), mask (B, T) -> (N, D): the real snippets, video after video."""
    return x.reshape(-1, x.shape[-1]).index_select(0, _real_rows(mask))


def unpack(rows: Tensor, mask: Tensor) -> Tensor:
    """(N, D), mask (B, T) -> (B, T, D), zero where padded."""
    padded = rows.new_zeros((mask.numel(), rows.shape[-1])).index_copy_(0, _real_rows(mask), rows)
    return padded.reshape(*mask.shape, -1)


class TemporalConv(nn.Conv1d):
    """Convolution over time, zero-padded at the ends of each video: rows (N, D), mask (B, T) -> rows (N, D_out).

    The kernel is odd and the output as long as the input. Its parameters are those of `torch.nn.Conv1d`.
    """

    def __init__(self, in_features: int, out_features: int, kernel: int = 1, bias: bool = True) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        super().__init__(in_features, out_features, kernel, padding=kernel // 2, bias=bias)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve rows (N, D) -> (N, D_out)."""
        device, parameters = rows.device.type, (rows, self.weight, self.bias)
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            parameters = tuple(None if value is None else value.to(kind) for value in parameters)  # type: ignore[assignment]
        with torch.autocast(device, enabled=False):
            result: Tensor = _TapConvolution.apply(*parameters, mask)  # type: ignore[no-untyped-call]
        return result

    def of_scaled(self, rows: Tensor, scales: Tensor, mask: Tensor) -> Tensor:
        """(N, D), (S, N), (B, T) -> (S * N, D_out): convolve S scalings of the same rows, one after another.

        Products are computed once, since W (s x) = s (W x), and the scales' gradient needs none.
        """
        reach = self.weight.shape[2] // 2
        taps = nn.functional.linear(rows, self.weight.permute(2, 0, 1).flatten(0, 1))
        taps = taps.reshape(len(rows), -1, len(self.weight))
        result: Tensor = scales[..., None] * taps[:, reach]
        for shift in range(1, min(reach, len(rows) - 1) + 1):
            near = scales.new_ones(len(rows) - shift).index_fill_(0, _borders(mask, shift), 0.0)
            earlier = (scales[:, :-shift] * near)[..., None] * taps[:-shift, reach - shift]
            later = (scales[:, shift:] * near)[..., None] * taps[shift:, reach + shift]
            result = result + nn.functional.pad(earlier, (0, 0, shift, 0)) + nn.functional.pad(later, (0, 0, 0, shift))
        return (result if self.bias is None else result + self.bias).flatten(0, 1)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` at a fraction of its cost on a CPU: four numbers are drawn at once, as 16 bits each.

    The dropped share is the nearest multiple of 2^-16, and the scaling of the rest is exact for it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the numbers at random in training, and scale the others up."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        survives = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * survives.to(x.dtype).mul_(1.0 / (1.0 - dropped / 2**16))


def _add_product(result: Tensor, rows: Tensor, matrix: Tensor, border: Tensor) -> None:
    """(N, E) += (N, D) @ (D, E), except for the rows at `border`, which are unchanged."""
    exact = result[border]
    torch.addmm(result, rows.to(result.dtype), matrix.to(result.dtype), out=result)
    result[border] = exact


class _TapConvolution(torch.autograd.Function):
    """One matrix product per tap of the kernel, added in place: faster than torch's convolution on a CPU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
        """(N, D), (D_out, D, K), (D_out,), (B, T) -> (N, D_out)."""
        reach = weight.shape[2] // 2
        result = nn.functional.linear(rows, weight[:, :, reach], bias)
        borders = {shift: _borders(mask, shift) for shift in range(1, min(reach, len(rows) - 1) + 1)}
        for shift, border in borders.items():
            _add_product(result[shift:], rows[:-shift], weight[:, :, reach - shift].t(), border)
            _add_product(result[:-shift], rows[shift:], weight[:, :, reach + shift].t(), border)
        ctx.save_for_backward(rows, weight)
        ctx.borders, ctx.has_bias = borders, bias is not None
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        """Gradients of rows, weight and bias; that of rows only if needed, which it is not for input features."""
        rows, weight = ctx.saved_tensors
        reach = weight.shape[2] // 2
        of_rows = gradient @ weight[:, :, reach] if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight)
        of_weight[:, :, reach] = gradient.t() @ rows
        for shift, border in ctx.borders.items():
            for tap, out, into in (
                (reach - shift, slice(shift, None), slice(None, -shift)),
                (reach + shift, slice(None, -shift), slice(shift, None)),
            ):
                part, seen = gradient[out], rows[into]
                if of_rows is not None:
                    _add_product(of_rows[into], part, weight[:, :, tap], border)
                of_weight[:, :, tap] = part.t() @ seen - part[border].t() @ seen[border]
        return of_rows, of_weight, gradient.sum(dim=0) if ctx.has_bias else None, None


def masked_topk_mean(
    values: Tensor, mask: Tensor, ratio: int, rounding: Literal["down", "up"] = "down", lowest: bool = False
) -> Tensor:
    """(B, T, C), (B, T) -> (B, C): mean of the k = max(1, length / ratio) largest values of each class over time.

    k is rounded `down` or `up`; with `lowest` it is the mean of the smallest values.
    """
    sign = -1.0 if lowest else 1.0
    lengths = mask.sum(dim=1)
    counts = torch.clamp((lengths + (ratio - 1 if rounding == "up" else 0)) // ratio, min=1)
    ordered = (sign * values).masked_fill(~mask[..., None], -torch.inf).topk(int(counts.max()), dim=1).values
    among = torch.arange(ordered.shape[1], device=values.device)[None, :] < counts[:, None]
    return sign * ordered.masked_fill(~among[..., None], 0.0).sum(dim=1) / counts[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T, ...), (B, T) -> (B, ...): mean over real snippets."""
    weights = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
    return values.masked_fill(~weights, 0.0).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, T, ...), (B, T) -> the same shape: softmax over the real snippets of each video, 0 where padded."""
    weights = mask.reshape(*mask.shape, *[1] * (logits.ndim - 2))
    return logits.masked_fill(~weights, -torch.inf).softmax(dim=1).masked_fill(~weights, 0.0)


def masked_smooth(values: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """(B, T, C), (B, T) -> (B, T, C): Gaussian smoothing over time, standard deviation `sigma` snippets.

    The Gaussian is truncated at 4 deviations, and renormalized at a video's ends; padded snippets are 0.
    """
    values = values.masked_fill(~mask[..., None], 0.0)
    reach = int(4.0 * sigma + 0.5)
    if reach == 0:
        return values
    steps = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)[None, None]
    signals = torch.cat([values, mask[..., None].to(values.dtype)], dim=-1).transpose(1, 2)
    blurred = nn.functional.conv1d(signals.reshape(-1, 1, mask.shape[1]), kernel, padding=reach)
    smooth = blurred.reshape(signals.shape).transpose(1, 2)
    return smooth[..., :-1].masked_fill(~mask[..., None], 0.0) / smooth[..., -1:].masked_fill(~mask[..., None], 1.0)


def _real_rows(mask: Tensor) -> Tensor:
    return mask.reshape(-1).nonzero()[:, 0]


def _borders(mask: Tensor, shift: int) -> Tensor:
    """(B, T) -> the n in (N - shift,) for which row n and row n + shift belong to different videos."""
    video = torch.arange(len(mask), device=mask.device).repeat_interleave(mask.sum(dim=1))
    return (video[shift:] != video[:-shift]).nonzero()[:, 0]
