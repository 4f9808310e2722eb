"""TV-L1 optical flow in plain torch, on a batch of pairs: the readable implementation, for any device.

The energy of a pair (Zach, Pock and Bischof 2007, equation 5) balances the total variation of the flow u with the
changes of brightness along it,

    sum |grad u1| + |grad u2| + |u - v|^2 / (2 theta) + lambda |rho(v)|,
    rho(v) = I1(x + u0) + (v - u0) . grad I1(x + u0) - I0,

with the auxiliary v, which splits it into two problems with closed solutions: a threshold on rho yields v from u
(`_follow`), a step of the dual variables p yields u from v (`_smooth`). They alternate until u no longer moves; then I1
is warped again along u, and the whole runs from coarse to fine (Sanchez Perez et al., IPOL 2013, algorithm 1, with
OpenCV's median filter between rounds).

Two details differ from OpenCV: the threshold on rho divides by |grad I1|^2, which is at least the machine's epsilon
here; and flow below 1e-12 pixels is set to 0, since denormal numbers slow down a CPU. Each pair has its own stopping
rule, and sums have a fixed order, so that a pair's flow depends neither on its batch nor on threads.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wtal.extractors.optical_flow import CPU, FlowFields, Grays, extend_edges
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid

_SCHEME = 1
"""Version to be raised with every change here that changes a number."""
_LEAST = 1e-12
"""Pixels below which flow is set to 0."""
CUBIC = -0.75
"""Sharpness of bicubic interpolation, as in OpenCV."""
PLACES = 32
"""Positions of bicubic interpolation between two pixels: others are rounded to them, as in OpenCV."""


class Engine:
    """TV-L1 engine for one device; stateless between calls."""

    def __init__(self, parameters: Parameters, device: str = CPU) -> None:
        self._parameters, self._device = parameters, device

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        height, width = first.shape[1:]
        pictures = [torch.from_numpy(extend_edges(stack, MIN_SIDE)).to(self._device) for stack in (first, second)]
        flow = tvl1(pictures[0], pictures[1], self._parameters)
        pixels: FlowFields = flow[:, :, :height, :width].permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels


def why_not(device: str) -> str | None:
    """Return None if torch can use the device, else the reason."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def version() -> dict[str, Any]:
    """Return the versions of library and code for a store's identity."""
    return {"torch": torch.__version__, "scheme": _SCHEME}


@torch.inference_mode()
def tvl1(first: Tensor, second: Tensor, parameters: Parameters) -> Tensor:
    """Map (N, H, W), (N, H, W) grey values to 255 -> (N, 2, H, W) pixels, x before y."""
    sizes = pyramid(first.shape[1], first.shape[2], parameters)
    firsts, seconds = (shrink(pictures.float(), sizes, parameters.scale_step) for pictures in (first, second))
    flow = firsts[-1].new_zeros(len(first), 2, *sizes[-1])
    for level in reversed(range(len(sizes))):
        if flow.shape[2:] != sizes[level]:
            flow = enlarge(flow, sizes[level]) * (1 / parameters.scale_step)
        flow = _refine(firsts[level], seconds[level], flow, parameters)
    return flow


def shrink(pictures: Tensor, sizes: list[tuple[int, int]], step: float) -> list[Tensor]:
    """Shrink (N, H, W) -> (N, *size) for every one of `sizes`, each from the previous one."""
    levels = [pictures]
    for height, width in sizes[1:]:
        last = levels[-1]
        rows, columns = (AxisTaps.of(*pair, 1 / step) for pair in zip(last.shape[1:], (height, width), strict=True))
        levels.append(_interpolate(last, rows, columns))
    return levels


def enlarge(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge (N, 2, h, w) -> (N, 2, H, W), the values unchanged."""
    rows, columns = (AxisTaps.of(*pair, pair[0] / pair[1]) for pair in zip(flow.shape[2:], size, strict=True))
    return _interpolate(flow, rows, columns)


class AxisTaps(NamedTuple):
    """Linear interpolation along an axis: of samples `lower` and `upper`, (n,) int64, by `weight` of the upper one."""

    lower: Tensor
    upper: Tensor
    weight: Tensor

    @classmethod
    def of(cls, length: int, wanted: int, step: float) -> "AxisTaps":
        """Place `wanted` samples among `length`, `step` of those apart, repeating the end samples beyond the ends."""
        position = ((np.arange(wanted) + 0.5) * step - 0.5).astype(np.float32).clip(0, length - 1)
        lower = np.floor(position).astype(np.int64)
        taps = lower, (lower + 1).clip(max=length - 1), position - lower.astype(np.float32)
        return cls(*(torch.from_numpy(values) for values in taps))

    def to(self, device: torch.device) -> "AxisTaps":
        """Return the same on another device."""
        return AxisTaps(*(values.to(device) for values in self))


def _interpolate(pictures: Tensor, rows: AxisTaps, columns: AxisTaps) -> Tensor:
    rows, columns = rows.to(pictures.device), columns.to(pictures.device)
    left, right = pictures[..., columns.lower], pictures[..., columns.upper]
    wide = left * (1 - columns.weight) + right * columns.weight
    above, below = wide[..., rows.lower, :], wide[..., rows.upper, :]
    return above * (1 - rows.weight)[:, None] + below * rows.weight[:, None]


def _refine(first: Tensor, second: Tensor, flow: Tensor, parameters: Parameters) -> Tensor:
    """Map (N, H, W), (N, H, W), (N, 2, H, W) -> (N, 2, H, W): all warps of a level, keeping the dual variables."""
    dual = flow.new_zeros(len(flow), 2, 2, *flow.shape[2:])
    pictures = torch.cat((second[:, None], central_gradient(second)), 1)
    for _ in range(parameters.warps):
        warped = warp(pictures, flow)
        slope = warped[:, 1:]
        rest = warped[:, 0] - slope[:, 0] * flow[:, 0] - slope[:, 1] * flow[:, 1] - first
        flow, dual = _minimize(slope, rest, flow, dual, parameters)
    return flow


def _minimize(slope: Tensor, rest: Tensor, flow: Tensor, dual: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Run the rounds of a warp: (N, 2, H, W), (N, H, W), flow (N, 2, H, W), dual (N, 2, 2, H, W) -> flow, dual.

    A finished pair leaves the batch.
    """
    done_flow, done_dual = torch.empty_like(flow), torch.empty_like(dual)
    pairs = torch.arange(len(flow), device=flow.device)
    limit = parameters.epsilon**2 * rest.shape[1:].numel()
    inverse = 1 / (slope[:, 0] ** 2 + slope[:, 1] ** 2).clamp(min=torch.finfo(torch.float32).eps)
    for iteration in range(parameters.outer_iterations * parameters.inner_iterations):
        if iteration % parameters.inner_iterations == 0:
            flow = median(flow, parameters.median)
        before = flow
        flow = _smooth(_follow(flow, slope, rest, inverse, parameters), dual, parameters)
        dual = _ascend(dual, flow, parameters)
        going = _total((flow - before) ** 2) > limit
        if not going.all():
            done_flow[pairs[~going]], done_dual[pairs[~going]] = flow[~going], dual[~going]
            pairs, flow, dual = pairs[going], flow[going], dual[going]
            slope, rest, inverse = slope[going], rest[going], inverse[going]
            if not len(pairs):
                break
    done_flow[pairs], done_dual[pairs] = flow, dual
    return done_flow, done_dual


def _follow(flow: Tensor, slope: Tensor, rest: Tensor, inverse: Tensor, parameters: Parameters) -> Tensor:
    """Return v: the flow, moved along the picture's slope until rho is 0, by at most lambda theta |slope|."""
    rho = rest + (slope[:, 0] * flow[:, 0] + slope[:, 1] * flow[:, 1])
    bound = parameters.lambda_ * parameters.theta
    return flow - slope * (rho * inverse).clamp(-bound, bound)[:, None]


def _smooth(follower: Tensor, dual: Tensor, parameters: Parameters) -> Tensor:
    """Return u from v and the dual variables."""
    return functional.hardshrink(follower + divergence(dual) * parameters.theta, _LEAST)


def _ascend(dual: Tensor, flow: Tensor, parameters: Parameters) -> Tensor:
    """Return dual variables p after a step along the gradient of u, (N, 2 of the flow, 2 directions, H, W)."""
    step = parameters.tau / parameters.theta
    gradient = forward_gradient(flow)
    length = (gradient[:, :, 0] ** 2 + gradient[:, :, 1] ** 2).sqrt()
    return (dual + gradient * step) * (1 / (1 + length * step))[:, :, None]


def forward_gradient(values: Tensor) -> Tensor:
    """Map (..., H, W) -> (..., 2, H, W): the next sample minus this one, along x and y; 0 in the last column, row."""
    gradient = values.new_zeros(*values.shape[:-2], 2, *values.shape[-2:])
    gradient[..., 0, :, :-1] = values[..., :, 1:] - values[..., :, :-1]
    gradient[..., 1, :-1, :] = values[..., 1:, :] - values[..., :-1, :]
    return gradient


def divergence(vectors: Tensor) -> Tensor:
    """Map (..., 2, H, W) -> (..., H, W): this sample minus the previous one, x and y added; 0 precedes the first."""
    along, down = vectors[..., 0, :, :], vectors[..., 1, :, :]
    total = along + down
    total[..., :, 1:] -= along[..., :, :-1]
    total[..., 1:, :] -= down[..., :-1, :]
    return total


def central_gradient(pictures: Tensor) -> Tensor:
    """Map (N, H, W) -> (N, 2, H, W): half the difference of the neighbours; the border is repeated outside."""
    wide = functional.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along, down = wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2], wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]
    return torch.stack((along, down), 1) * 0.5


def warp(pictures: Tensor, flow: Tensor) -> Tensor:
    """Sample (N, C, H, W) at x + flow (N, 2, H, W) -> (N, C, H, W): bicubic; 0 beyond the border."""
    count, channels, height, width = pictures.shape
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    rows, columns = _cubic_taps(y, height), _cubic_taps(x, width)
    flat, result = pictures.flatten(2), torch.zeros_like(pictures)
    for row, row_weight in rows:
        for column, column_weight in columns:
            index = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
            samples = flat.gather(2, index).view(count, channels, height, width)
            result += samples * (row_weight * column_weight)[:, None]
    return result


def _cubic_taps(position: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """Return the four samples around every position, and their weights: 0 for a missing sample."""
    position = (position * PLACES).round() / PLACES
    start = position.floor()
    part = position - start
    taps = []
    for offset in (-1, 0, 1, 2):
        sample = start + offset
        weight = _cubic((part - offset).abs()) * ((sample >= 0) & (sample < length))
        taps.append((sample.clamp(0, length - 1).long(), weight))
    return taps


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys's weight of a sample `distance` away, which is at most 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return torch.where(distance <= 1, near, far)


def median(flow: Tensor, side: int) -> Tensor:
    """Filter (N, 2, H, W) -> (N, 2, H, W) by side x side medians; the border is repeated outside."""
    if side == 1:
        return flow
    reach = side // 2
    wide = functional.pad(flow, (reach,) * 4, mode="replicate")
    height, width = flow.shape[2:]
    waiting = [wide[:, :, y : y + height, x : x + width] for y in range(side) for x in range(side)]
    candidates, waiting = waiting[: side**2 // 2 + 2], waiting[side**2 // 2 + 2 :]
    while waiting:
        candidates = [*_without_extremes(candidates), waiting.pop()]
    return _without_extremes(candidates)[0]


def _without_extremes(values: list[Tensor]) -> list[Tensor]:
    """Drop the smallest and the largest: among half of all values plus two, neither can be the median."""
    least, *others = values
    for number, value in enumerate(others):
        least, others[number] = torch.minimum(least, value), torch.maximum(least, value)
    greatest, *rest = others
    for number, value in enumerate(rest):
        rest[number], greatest = torch.minimum(greatest, value), torch.maximum(greatest, value)
    return rest


def _total(values: Tensor) -> Tensor:
    """Sum (N, 2, H, W) -> (N,), in an order independent of batch and threads: along rows, then over rows."""
    return values.sum(3).flatten(1).sum(1)
