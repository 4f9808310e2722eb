"""Context of the whole video for each snippet: recurrence, self-attention, or the mean; exact for each length.

Every operation takes rows (N, D) and the mask (B, T) with which they were packed, and returns rows (N, E).
"""

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, scaled_dot_product_attention

from wtal.models.layers.temporal import TemporalConv, masked_mean, pack, unpack

GlobalOperation = Literal["lstm", "nonlocal", "pool", "none"]
_STRETCHES = 4
"""Largest number of stretches of time into which a recurrence over videos of different length is split."""


class BidirectionalLstm(nn.Module):
    """An LSTM from each end of a video; a row concatenates both states at that snippet.

    Padding follows the snippets, so that it comes too late to affect them; for the backward pass each video is reversed
    within its own length. Torch's packed sequences do the same; on a CPU their gradient is five times as slow.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(in_features, out_features // 2)
        self.back = nn.LSTM(in_features, out_features // 2)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (N, E)."""
        with torch.autocast(rows.device.type, enabled=False):
            onward, back = (_recur(lstm, rows.float(), mask, lstm is self.back) for lstm in (self.onward, self.back))
        return torch.cat([onward, back], dim=-1)


class NonLocal(nn.Module):
    """Single-head self-attention over a video (Wang et al., CVPR 2018: embedded Gaussian), at half the width.

    Without the residual of that paper: the parallel operation preserves the snippet itself. The keys have no bias, as
    the softmax is invariant to it.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        inner = out_features // 2
        self.query = TemporalConv(in_features, inner)
        self.key = TemporalConv(in_features, inner, bias=False)
        self.value = TemporalConv(in_features, inner)
        self.out = TemporalConv(inner, out_features)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Let every snippet attend to all of its video."""
        query, key, value = (unpack(layer(rows, mask), mask) for layer in (self.query, self.key, self.value))
        answer = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, :])
        out: Tensor = self.out(pack(answer, mask), mask)
        return out


class GlobalPool(nn.Module):
    """The mean over a video, projected, for each of its snippets."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.out = nn.Linear(in_features, out_features)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return the same row for all snippets of a video."""
        whole = leaky_relu(self.out(masked_mean(unpack(rows, mask), mask)))
        return whole.repeat_interleave(mask.sum(dim=1), dim=0)


class LocalGlobal(nn.Module):
    """A convolution over three snippets and a global operation, in parallel on the same rows, concatenated.

    `out_features` is the width of each of the two; `width` that of both. The global side is multiplied by a learned
    number, initially `gain`.
    """

    def __init__(self, in_features: int, out_features: int, operation: GlobalOperation, gain: float) -> None:
        super().__init__()
        self.local = TemporalConv(in_features, out_features, 3)
        self.width = out_features
        self.whole: nn.Module | None = None
        if operation != "none":
            self.whole = _OPERATIONS[operation](in_features, out_features)
            self.gain = nn.Parameter(torch.tensor(gain))
            self.width = 2 * out_features

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Rows (N, D) -> (N, width)."""
        return self._concatenated(self.local(rows, mask), rows, mask)

    def of_scaled(self, rows: Tensor, scales: Tensor, mask: Tensor) -> Tensor:
        """(N, D), (S, N), (B, T) -> (S * N, width): `forward` on S scalings of the same rows."""
        scaled = (scales[..., None] * rows).flatten(0, 1)
        return self._concatenated(self.local.of_scaled(rows, scales, mask), scaled, mask.repeat(len(scales), 1))

    def _concatenated(self, local: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        local = leaky_relu(local)
        return local if self.whole is None else torch.cat([local, self.gain * self.whole(rows, mask)], dim=-1)


_OPERATIONS = {"lstm": BidirectionalLstm, "nonlocal": NonLocal, "pool": GlobalPool}


def _recur(lstm: nn.LSTM, rows: Tensor, mask: Tensor, backwards: bool) -> Tensor:
    """(N, D), (B, T) -> (N, E), in a few stretches of time, each with the videos that extend into it."""
    visits, sizes = _visits(mask, backwards)
    real = (visits >= 0).nonzero()[:, 0]
    positions = torch.empty_like(real).index_copy_(0, visits[real], real)
    ordered: Tensor = _Rearranged.apply(rows, visits, positions)  # type: ignore[no-untyped-call]
    parts, state = [], None
    for part, (steps, alive) in zip(
        torch.split(ordered, [steps * alive for steps, alive in sizes]), sizes, strict=True
    ):
        if state is not None:
            state = state[0][:, :alive].contiguous(), state[1][:, :alive].contiguous()
        seen, state = lstm(part.reshape(steps, alive, -1), state)
        parts.append(seen.flatten(0, 1))
    back: Tensor = _Rearranged.apply(torch.cat(parts), positions, visits)  # type: ignore[no-untyped-call]
    return back


def _visits(mask: Tensor, backwards: bool) -> tuple[Tensor, list[tuple[int, int]]]:
    """Rows in the order of a recurrence, -1 after a video's end; and steps and videos per stretch."""
    lengths, order = mask.sum(dim=1).sort(descending=True, stable=True)
    last = mask.sum(dim=1).cumsum(dim=0)[order] - 1
    ends = sorted(set(lengths[:: -(-len(lengths) // _STRETCHES)].tolist()))
    visits, sizes = [], []
    for start, end in pairwise([0, *ends]):
        alive = int((lengths > start).sum())
        elapsed = torch.arange(start, end, device=mask.device)[:, None].expand(-1, alive)
        left = lengths[:alive] - 1 - elapsed
        row = last[:alive] - (elapsed if backwards else left)
        visits.append(row.masked_fill(left < 0, -1).flatten())
        sizes.append((end - start, alive))
    return torch.cat(visits), sizes


class _Rearranged(torch.autograd.Function):
    """(N, D), (M,), (N,) -> (M, D): row `there[m]` at m, zeros where that is negative; `back` is the inverse.

    No row occurs twice, so that the gradient is the inverse permutation: faster than accumulation.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        """Move the rows."""
        ctx.save_for_backward(there, back)
        return _moved(rows, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        """Move the gradient back."""
        return _moved(gradient, ctx.saved_tensors[1]) if ctx.needs_input_grad[0] else None, None, None


def _moved(rows: Tensor, there: Tensor) -> Tensor:
    return rows.index_select(0, there.clamp(min=0)).masked_fill_((there < 0)[:, None], 0.0)
