"""Histograms of gradients and of motion in square cells of a frame, in integers, so that their sums are exact.

The histograms are those of the dense-trajectory literature (Wang, Klaeser, Schmid, Liu: "Dense trajectories and motion
boundary descriptors for action recognition", IJCV 2013), interpolated linearly between neighbouring bins. They are
compiled by numba with a fixed order of operations, and a frame is described once for all clips that contain it: results
are cached by the frame's bytes.

A vector (x, y) lies between one of the directions right, down, left, up and one of the diagonals. With a and b the
larger and the smaller of |x| and |y|, it is (a - b) along the former plus sqrt(2) b along the latter: its two bins.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Counts = NDArray[np.int32]
Cells = tuple[Counts, Counts]
"""Histograms (rows, columns, bins) and motion energy (rows, columns) of a frame."""

ACROSS = 20
"""Number of cells along the shorter side of a picture."""
DIRECTIONS = 8
UNIT = 64
"""Integers per point of flow, or per full share of a bin."""
SPEEDS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
"""Centres of the speed bins, in points per frame; the first is standing still."""
FLOW_FLOOR = 0.4
"""Points per frame up to which flow is considered noise: standing still."""
FLOW_CEILING = 4.0
"""Points per frame above the floor at which a pixel's energy saturates."""
FLOW_LARGEST = 120
"""Points per frame, the picture's shorter side, to which either component is clipped."""
GRAY_FLOOR = 12
"""Grey levels (of 255) between a frame's two neighbours up to which a change is considered noise."""
GRAY_CEILING = 60
"""Grey levels above the floor at which a pixel's energy saturates."""
GRAY_MOVING = 20
"""Grey levels above the floor from which a pixel counts as moving, along with the 5 x 5 pixels around it."""
_REMEMBERED = 256
"""Number of cached frames: those of a few batches of overlapping clips, in two threads."""


def flow_cells(flow: NDArray[np.float32], scale: float) -> Cells:
    """Map (2, h, w) flow in pixels, with `scale` points per pixel -> cells of 34 bins: speed, HOF, MBHx, MBHy.

    The affine motion of most of the picture, that of the camera, is subtracted first.
    """
    return _flow_cells(flow.tobytes(), flow.shape[1:], scale)


def gray_cells(before: NDArray[np.uint8], gray: NDArray[np.uint8], after: NDArray[np.uint8]) -> Cells:
    """Map three frames (h, w) -> cells of 16 bins: HOG of all pixels, and of the moving ones."""
    return _gray_cells(before.tobytes(), gray.tobytes(), after.tobytes(), gray.shape)


@lru_cache(_REMEMBERED)
def _flow_cells(flow: bytes, shape: tuple[int, int], scale: float) -> Cells:
    points = np.frombuffer(flow, np.float32).reshape(2, *shape) * np.float32(scale)
    limits = round(FLOW_FLOOR * UNIT), round(FLOW_CEILING * UNIT)
    cells: Cells = _describe_flow(points, *_numbers(shape), *limits, _BELOW, _SHARE)
    return cells


@lru_cache(_REMEMBERED)
def _gray_cells(before: bytes, gray: bytes, after: bytes, shape: tuple[int, int]) -> Cells:
    first, middle, last = (np.frombuffer(frame, np.uint8).reshape(shape) for frame in (before, gray, after))
    change = np.clip(cv2.absdiff(first, last).astype(np.int32) - GRAY_FLOOR, 0, GRAY_CEILING)
    shares = (np.minimum(change, GRAY_MOVING) * UNIT // GRAY_MOVING).astype(np.uint8)
    moving = cv2.dilate(shares, np.ones((5, 5), np.uint8))
    cells: Cells = _describe_gray(middle.astype(np.int32), change, moving.astype(np.int32), *_numbers(shape))
    return cells


def _numbers(shape: tuple[int, int]) -> tuple[Counts, Counts]:
    """Map (h, w) of a picture -> (h,), (w,): the row and the column of cells containing each pixel's centre."""
    side = min(shape) / min(ACROSS, *shape)
    counts = (max(1, round(length / side)) for length in shape)
    rows, columns = (
        ((2 * np.arange(length, dtype=np.int32) + 1) * count // (2 * length)).astype(np.int32)
        for length, count in zip(shape, counts, strict=True)
    )
    return rows, columns


def _speed_table() -> tuple[Counts, Counts]:
    """Map speed in 1 / UNIT points -> the bin below it, and the share, of UNIT, of the bin above it."""
    speeds = np.arange(int(SPEEDS[-1] * UNIT) + 1) / UNIT
    below = np.searchsorted(SPEEDS, speeds, side="right").clip(1, len(SPEEDS) - 1) - 1
    low, high = np.take(SPEEDS, below), np.take(SPEEDS, below + 1)
    return below.astype(np.int32), np.rint(UNIT * (speeds - low) / (high - low)).astype(np.int32)


_BELOW, _SHARE = _speed_table()
_FLOW_BINS = len(SPEEDS) + 3 * DIRECTIONS


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, and cache the machine code on disk if a folder is writable."""
    try:
        compiled: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compiled
def _vote(bins: Any, first: int, x: int, y: int) -> None:
    """Add an integer vector to the two enclosing ones of eight directions (x right, y down)."""
    wide, high = abs(x), abs(y)
    across, down = (0 if x >= 0 else 4), (2 if y >= 0 else 6)
    axis = across if wide >= high else down
    diagonal = (1 if x >= 0 else 3) if y >= 0 else (7 if x >= 0 else 5)
    bins[first + axis] += abs(wide - high)
    bins[first + diagonal] += (min(wide, high) * 181 + 64) >> 7  # 181 / 128 is sqrt(2)


@_compiled
def _slope(flow: Any, ys: Any, xs: Any) -> Any:
    """Return the median change of flow per pixel across, over pairs of `xs` half their range apart."""
    half = len(xs) // 2
    if half == 0:
        return np.float32(0)
    pairs = len(xs) - half
    slopes = np.empty(len(ys) * pairs, np.float32)
    for i in range(len(slopes)):
        y, left, right = ys[i // pairs], xs[i % pairs], xs[i % pairs + half]
        slopes[i] = (flow[y, right] - flow[y, left]) / np.float32(right - left)
    return np.sort(slopes)[(len(slopes) - 1) // 2]


@_compiled
def _without_camera(flow: Any) -> Any:
    """Convert one component (h, w) in points to 1 / UNIT, minus the affine motion of most of a coarse grid.

    Medians of differences, after Theil and Sen.
    """
    height, width = flow.shape
    ys = np.arange(height // 16, height, max(1, height // 8))
    xs = np.arange(width // 16, width, max(1, width // 8))
    across, down = _slope(flow, ys, xs), _slope(flow.T, xs, ys)
    rests = np.empty(len(ys) * len(xs), np.float32)
    for i in range(len(rests)):
        y, x = ys[i // len(xs)], xs[i % len(xs)]
        rests[i] = flow[y, x] - across * np.float32(x) - down * np.float32(y)
    offset = np.sort(rests)[(len(rests) - 1) // 2]
    still = np.empty((height, width), np.int32)
    largest = np.float32(FLOW_LARGEST)
    for y in range(height):
        for x in range(width):
            rest = flow[y, x] - across * np.float32(x) - down * np.float32(y) - offset
            still[y, x] = int(np.rint(min(max(rest, -largest), largest) * np.float32(UNIT)))
    return still


@_compiled
def _describe_flow(flow: Any, rows: Any, columns: Any, floor: int, ceiling: int, below: Any, share: Any) -> Any:
    _, height, width = flow.shape
    histograms = np.zeros((rows[-1] + 1, columns[-1] + 1, _FLOW_BINS), np.int32)
    energy = np.zeros((rows[-1] + 1, columns[-1] + 1), np.int32)
    across, down = _without_camera(flow[0]), _without_camera(flow[1])
    speeds = len(below) - 1
    boundaries = _FLOW_BINS - 2 * DIRECTIONS
    for y in range(height):
        for x in range(width):
            bins = histograms[rows[y], columns[x]]
            u, v = across[y, x], down[y, x]
            speed = int(np.rint(math.sqrt(float(u) * u + float(v) * v)))
            step = min(speed, speeds)
            bins[below[step]] += UNIT - share[step]
            bins[below[step] + 1] += share[step]
            if speed > floor:
                _vote(bins, boundaries - DIRECTIONS, u, v)
                energy[rows[y], columns[x]] += min(speed - floor, ceiling)
            if 0 < y < height - 1 and 0 < x < width - 1:
                _vote(bins, boundaries, across[y, x + 1] - across[y, x - 1], across[y + 1, x] - across[y - 1, x])
                _vote(bins, boundaries + DIRECTIONS, down[y, x + 1] - down[y, x - 1], down[y + 1, x] - down[y - 1, x])
    return histograms, energy


@_compiled
def _describe_gray(gray: Any, change: Any, moving: Any, rows: Any, columns: Any) -> Any:
    height, width = gray.shape
    histograms = np.zeros((rows[-1] + 1, columns[-1] + 1, 2 * DIRECTIONS), np.int32)
    energy = np.zeros((rows[-1] + 1, columns[-1] + 1), np.int32)
    for y in range(height):
        for x in range(width):
            energy[rows[y], columns[x]] += change[y, x]
            if not (0 < y < height - 1 and 0 < x < width - 1):
                continue
            across, down = float(gray[y, x + 1] - gray[y, x - 1]), float(gray[y + 1, x] - gray[y - 1, x])
            size = math.sqrt(across * across + down * down)
            if size == 0:
                continue
            # At twice its angle, a vector equals its opposite.
            a = int(np.rint(UNIT * (across * across - down * down) / size))
            b = int(np.rint(UNIT * 2 * across * down / size))
            bins = histograms[rows[y], columns[x]]
            _vote(bins, 0, a, b)
            _vote(bins, DIRECTIONS, (a * moving[y, x]) // UNIT, (b * moving[y, x]) // UNIT)
    return histograms, energy
