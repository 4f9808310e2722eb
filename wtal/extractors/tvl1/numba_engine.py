"""TV-L1 optical flow compiled for the CPU: a pair on one core, sixteen pixels at once.

The scheme is OpenCV's, step by step: pyramids by bilinear interpolation; in each level warps by a bicubic with 32
positions between two pixels and 0 outside; in each warp rounds of a median filter and iterations, until the flow moves
by less than epsilon. Sums have another order, so the flow is near OpenCV's but not equal to it.

The memory layout makes it fast. Everything that an iteration reads and writes for a row (flow, dual variables, the
linearized pictures) is adjacent in one array, and one sweep over the rows does both halves of an iteration: the flow of
a row, then the dual variables of the row above, which by then has new flow on both sides. Zeros around each row
represent the outside, so that no pixel is a special case. Denormals, which flow and dual variables reach on still
pictures and which slow processors down, are flushed to zero.

Each step does the same in the same order for any processor, number of threads and adjacent pairs.
"""

from functools import cache
from importlib.metadata import version as installed
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.optical_flow import CPU, FlowFields, Grays, extend_edges
from wtal.extractors.tvl1.numba_median import AROUND, medians
from wtal.extractors.tvl1.numba_simd import (
    LANES,
    Vector,
    fill,
    flush_denormals,
    fold,
    kernel,
    lane,
    least,
    load,
    most,
    part,
    restore,
    root,
    store,
)
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters, pyramid

Floats = NDArray[np.float32]
Sizes = NDArray[np.int64]

_FIELDS = 10
_U, _V, _P11, _P12, _P21, _P22, _IX, _IY, _RHO, _INVERSE = range(_FIELDS)
"""Fields of a row: flow, theta times its dual variables, gradient of the warped picture, residual, 1 / gradient^2."""

_SCHEME = 1
"""Part of a store's identity: raised with every change of a number, here, in `numba_simd` or in `numba_median`."""

_CHANNELS = 4
_MARGIN = 4
_BITS = 5
_PLACES = 1 << _BITS
_F = np.float32
_ZERO, _HALF, _ONE = _F(0), _F(0.5), _F(1)
_TINY = _F(np.finfo(np.float32).eps)


class _Numbers(NamedTuple):
    """Parameters in the form used by the kernels."""

    tau: np.float32
    ratio: np.float32
    threshold: np.float32
    epsilon: np.float32
    grow: float
    warps: int
    outer: int
    inner: int
    median: int


class Engine:
    """TV-L1 engine for a single thread."""

    def __init__(self, parameters: Parameters, device: str = CPU) -> None:
        self._parameters = parameters
        self._numbers = _Numbers(
            tau=_F(parameters.tau),
            ratio=_F(parameters.tau / parameters.theta),
            threshold=_F(parameters.lambda_ * parameters.theta),
            epsilon=_F(parameters.epsilon),
            grow=1 / parameters.scale_step,
            warps=parameters.warps,
            outer=parameters.outer_iterations,
            inner=parameters.inner_iterations,
            median=parameters.median,
        )

    def __call__(self, first: Grays, second: Grays) -> FlowFields:
        """Map (N, H, W), (N, H, W) uint8 -> (N, H, W, 2) float32 pixels."""
        count, height, width = first.shape
        first, second = extend_edges(first, MIN_SIDE), extend_edges(second, MIN_SIDE)
        sizes = np.array(pyramid(first.shape[1], first.shape[2], self._parameters), np.int64)
        flows = np.empty((count, *first.shape[1:], 2), np.float32)
        for flow, previous, following in zip(flows, first, second, strict=True):
            flow_of_pair(previous, following, sizes, _cubic_weights(), self._numbers, flow)
        return np.ascontiguousarray(flows[:, :height, :width])


def why_not(device: str) -> str | None:
    """Return None: it runs on every processor; the device does not matter."""
    return None


def version() -> dict[str, Any]:
    """Return the versions of library and code for a store's identity."""
    return {"numba": installed("numba"), "scheme": _SCHEME}


@cache
def _cubic_weights() -> Floats:
    """Return (32 * 16): weights of four neighbours, each four times, at i / 32 after the second of them.

    Keys' cubic with a = -0.75.
    """
    a, x = -0.75, np.arange(_PLACES) / _PLACES
    table = np.empty((_PLACES, 4))
    table[:, 0] = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    table[:, 1] = ((a + 2) * x - (a + 3)) * x * x + 1
    table[:, 2] = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    table[:, 3] = 1 - table[:, :3].sum(axis=1)
    return np.repeat(table, _CHANNELS).astype(np.float32)


@kernel
def flow_of_pair(first: Grays, second: Grays, sizes: Sizes, weights: Floats, numbers: _Numbers, flow: Floats) -> int:
    """Compute the flow of (H, W), (H, W) uint8, (levels, 2) sizes, into `flow`, (H, W, 2); return all iterations."""
    before = flush_denormals()
    levels = len(sizes)
    height, width = sizes[0]
    firsts, seconds = _pyramid(first, sizes, numbers.grow), _pyramid(second, sizes, numbers.grow)
    flows = np.zeros((2, 2, height, width), np.float32)
    state = np.empty(_length(height, width), np.float32)
    image = np.empty((height + 2 * _MARGIN) * (width + 2 * _MARGIN) * _CHANNELS, np.float32)
    mask = np.zeros(_pitch(width), np.float32)
    iterations = 0
    for level in range(levels - 1, -1, -1):
        h, w = sizes[level]
        here, coarser = flows[level % 2], flows[(level + 1) % 2]
        if level < levels - 1:
            a, b = sizes[level + 1]
            for axis in range(2):
                _resize(coarser[axis], sizes[level + 1], here[axis], sizes[level], a / h, b / w, _F(numbers.grow))
        mask[: w - 1], mask[w - 1 :] = _ONE, _ZERO
        state[: _length(h, w)] = _ZERO
        _put(here, h, w, state)
        _with_gradients(seconds[level], h, w, image)
        iterations += _solve(firsts[level], image, h, w, weights, numbers, mask, state)
        _get(state, h, w, here)
    for i in range(height):
        for j in range(width):
            flow[i, j, 0], flow[i, j, 1] = flows[0, 0, i, j], flows[0, 1, i, j]
    restore(before)
    return iterations


@kernel
def _pyramid(picture: Grays, sizes: Sizes, step: float) -> Floats:
    """Map (H, W) uint8 -> (levels, H, W), each level in its upper left corner."""
    levels = np.empty((len(sizes), sizes[0, 0], sizes[0, 1]), np.float32)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            levels[0, i, j] = picture[i, j]
    for level in range(1, len(sizes)):
        _resize(levels[level - 1], sizes[level - 1], levels[level], sizes[level], step, step, _ONE)
    return levels


@kernel
def _resize(
    source: Floats, have: Sizes, target: Floats, want: Sizes, step_y: float, step_x: float, factor: np.float32
) -> None:
    """Resize bilinearly, from the size `have` to the size `want`, a step from pixel to pixel, times `factor`."""
    bottom, right = have[0] - 1, have[1] - 1
    for i in range(want[0]):
        y = max((i + 0.5) * step_y - 0.5, 0.0)
        top = min(int(y), bottom)
        below = min(top + 1, bottom)
        down = _F(y - top)
        for j in range(want[1]):
            x = max((j + 0.5) * step_x - 0.5, 0.0)
            left = min(int(x), right)
            beside = min(left + 1, right)
            across = _F(x - left)
            high = source[top, left] + across * (source[top, beside] - source[top, left])
            low = source[below, left] + across * (source[below, beside] - source[below, left])
            target[i, j] = (high + down * (low - high)) * factor


@kernel
def _with_gradients(source: Floats, h: int, w: int, image: Floats) -> None:
    """Store four values per pixel: the picture, its central differences in x and y, 0; four zero pixels around."""
    pitch = (w + 2 * _MARGIN) * _CHANNELS
    image[: (h + 2 * _MARGIN) * pitch] = _ZERO
    for i in range(h):
        above, below = max(i - 1, 0), min(i + 1, h - 1)
        at = (i + _MARGIN) * pitch + _MARGIN * _CHANNELS
        for j in range(w):
            left, right = max(j - 1, 0), min(j + 1, w - 1)
            image[at] = source[i, j]
            image[at + 1] = _HALF * (source[i, right] - source[i, left])
            image[at + 2] = _HALF * (source[below, j] - source[above, j])
            at += _CHANNELS


@kernel
def _solve(
    first: Floats, image: Floats, h: int, w: int, weights: Floats, numbers: _Numbers, mask: Floats, state: Floats
) -> int:
    """Run all warps of a level, on the flow in `state`; return the iterations."""
    iterations = 0
    still = numbers.epsilon * numbers.epsilon * _F(h * w)
    for _ in range(numbers.warps):
        _warp(first, image, h, w, weights, state)
        change = _F(np.inf)
        for _ in range(numbers.outer):
            if change <= still:
                break
            if numbers.median > 1:
                _median(state, h, w, numbers.median)
            for _ in range(numbers.inner):
                if change <= still:
                    break
                change = _iterate(state, h, w, mask, numbers)
                iterations += 1
    return iterations


@kernel
def _warp(first: Floats, image: Floats, h: int, w: int, weights: Floats, state: Floats) -> None:
    """Linearize the second picture, and its difference from the first, around the flow in `state`."""
    rows, pitch = (w + 2 * _MARGIN) * _CHANNELS, _pitch(w)
    for i in range(h):
        at = _start(i, w)
        for j in range(w):
            u, v = state[at + _U * pitch + j], state[at + _V * pitch + j]
            x = _table_position(_F(j) + u, w)
            y = _table_position(_F(i) + v, h)
            tap = ((y >> _BITS) - 1 + _MARGIN) * rows + ((x >> _BITS) - 1 + _MARGIN) * _CHANNELS
            down = (y & (_PLACES - 1)) * LANES
            total = load(image, tap) * fill(weights[down])
            for k in range(1, 4):
                total = total + load(image, tap + k * rows) * fill(weights[down + k * _CHANNELS])
            total = fold(total * load(weights, (x & (_PLACES - 1)) * LANES), _CHANNELS)
            ix, iy = lane(total, 1), lane(total, 2)
            state[at + _IX * pitch + j] = ix
            state[at + _IY * pitch + j] = iy
            state[at + _RHO * pitch + j] = lane(total, 0) - ix * u - iy * v - first[i, j]
        for j in range(0, w, LANES):
            ix, iy = load(state, at + _IX * pitch + j), load(state, at + _IY * pitch + j)
            store(state, at + _INVERSE * pitch + j, fill(_ONE) / most(ix * ix + iy * iy, fill(_TINY)))


@part
def _table_position(position: np.float32, side: int) -> int:
    """Round to thirty-seconds of a pixel; positions beyond the margin outside are equal."""
    return int(np.rint(min(max(position, _F(1 - _MARGIN)), _F(side + 1)) * _F(_PLACES)))


@kernel
def _median(state: Floats, h: int, w: int, size: int) -> None:
    """Filter both components of the flow by medians; the border is repeated outside."""
    pitch = _pitch(w) + 2 * LANES
    source = np.empty((h + 2 * AROUND) * pitch, np.float32)
    columns = np.empty(5 * (w + 4 * LANES), np.float32)
    for field in (_U, _V):
        for i in range(-AROUND, h + AROUND):
            at = _start(min(max(i, 0), h - 1), w) + field * _pitch(w)
            to = (i + AROUND) * pitch + LANES
            for j in range(-AROUND, w + AROUND):
                source[to + j] = state[at + min(max(j, 0), w - 1)]
        for i in range(h):
            to = _start(i, w) + field * _pitch(w)
            medians(source, (i + AROUND) * pitch + LANES, pitch, size, w, columns, state, to)
            state[to + w : to + _pitch(w) - LANES] = _ZERO


@kernel
def _iterate(state: Floats, h: int, w: int, mask: Floats, numbers: _Numbers) -> np.float32:
    """Run one iteration; return the sum of the flow's squared changes."""
    change = _ZERO
    for row in range(h):
        change += _iterate_row(state, row, h, w, mask, numbers)
    return change


@kernel
def _iterate_row(state: Floats, row: int, h: int, w: int, mask: Floats, numbers: _Numbers) -> np.float32:
    """Update the flow of a row and the dual variables of the row above; in the last row also its own."""
    pitch = _pitch(w)
    here, above = _start(row, w), _start(row - 1, w)
    low, high = fill(-numbers.threshold), fill(numbers.threshold)
    change = fill(_ZERO)
    for x in range(0, w, LANES):
        at, over = here + x, above + x
        u, v = load(state, at + _U * pitch), load(state, at + _V * pitch)
        ix, iy = load(state, at + _IX * pitch), load(state, at + _IY * pitch)
        rho = load(state, at + _RHO * pitch) + ix * u + iy * v
        step = least(most(rho * load(state, at + _INVERSE * pitch), low), high)
        new_u = u - step * ix + _divergence(state, at + _P11 * pitch, at + _P12 * pitch, over + _P12 * pitch)
        new_v = v - step * iy + _divergence(state, at + _P21 * pitch, at + _P22 * pitch, over + _P22 * pitch)
        store(state, at + _U * pitch, new_u)
        store(state, at + _V * pitch, new_v)
        du, dv = new_u - u, new_v - v
        change = change + du * du + dv * dv
        if row > 0:
            _update_dual(state, over, pitch, new_u, new_v, load(mask, x), numbers)
    if row == h - 1:
        for x in range(0, w, LANES):
            at = here + x
            u, v = load(state, at + _U * pitch), load(state, at + _V * pitch)
            _update_dual(state, at, pitch, u, v, load(mask, x), numbers)
    total: np.float32 = lane(fold(change, 1), 0)
    return total


@part
def _divergence(state: Floats, across: int, down: int, over: int) -> Vector:
    """Return backward differences of a pair of dual variables, including theta."""
    return load(state, across) - load(state, across - 1) + load(state, down) - load(state, over)


@part
def _update_dual(
    state: Floats, at: int, pitch: int, below_u: Vector, below_v: Vector, mask: Vector, numbers: _Numbers
) -> None:
    """Take a step along the flow's forward differences, back into the unit ball; one division for both components."""
    one, tau, ratio = fill(_ONE), fill(numbers.tau), fill(numbers.ratio)
    u, v = load(state, at + _U * pitch), load(state, at + _V * pitch)
    ux, uy = (load(state, at + _U * pitch + 1) - u) * mask, below_u - u
    vx, vy = (load(state, at + _V * pitch + 1) - v) * mask, below_v - v
    norm_u = one + ratio * root(ux * ux + uy * uy)
    norm_v = one + ratio * root(vx * vx + vy * vy)
    both = one / (norm_u * norm_v)
    scale_u, scale_v = both * norm_v, both * norm_u
    store(state, at + _P11 * pitch, (load(state, at + _P11 * pitch) + tau * ux) * scale_u)
    store(state, at + _P12 * pitch, (load(state, at + _P12 * pitch) + tau * uy) * scale_u)
    store(state, at + _P21 * pitch, (load(state, at + _P21 * pitch) + tau * vx) * scale_v)
    store(state, at + _P22 * pitch, (load(state, at + _P22 * pitch) + tau * vy) * scale_v)


@part
def _pitch(w: int) -> int:
    """Return the distance of a row's fields: sixteen zeros, then its pixels, padded with zeros to a multiple of it."""
    return (w + LANES - 1) // LANES * LANES + LANES


@part
def _start(row: int, w: int) -> int:
    """Return the start of a row's first field; row 0 is preceded by one of zeros."""
    return (row + 1) * _FIELDS * _pitch(w) + LANES


@part
def _length(h: int, w: int) -> int:
    return (h + 1) * _FIELDS * _pitch(w) + 2 * LANES


@kernel
def _put(flow: Floats, h: int, w: int, state: Floats) -> None:
    for axis in range(2):
        for i in range(h):
            at = _start(i, w) + axis * _pitch(w)
            for j in range(w):
                state[at + j] = flow[axis, i, j]


@kernel
def _get(state: Floats, h: int, w: int, flow: Floats) -> None:
    for axis in range(2):
        for i in range(h):
            at = _start(i, w) + axis * _pitch(w)
            for j in range(w):
                flow[axis, i, j] = state[at + j]
