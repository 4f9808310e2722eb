"""Area averages of large pictures, in a third of OpenCV's time and with OpenCV's own values.

`cv2.resize(..., INTER_AREA)` weights each row of pixels across, then the rows: a multiplication by a weight for every
value of the picture, one at a time. Here rows are weighted first, which processors do sixteen values at a time, leaving
only as many rows to weight across as the result has. The other order rounds differently, by less than a known bound
(Higham, "Accuracy and Stability of Numerical Algorithms", 4.2): only values within that bound of the border between two
integers are computed a second time, in OpenCV's order.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from wtal.extractors.decoding.reader import Image

_LARGEST = 255
_ULP = 2.0**-24
"""Relative rounding error of float32."""
_LEAST_SHARE = 1e-3
"""Share of a pixel up to which OpenCV skips it."""

Cells = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""Offsets of each cell's pixels in the other two arrays, (n + 1,); the pixels; their weights."""


def is_averaged(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Return whether OpenCV weights pixels to shrink a picture of this (W, H); for integer factors, it does not."""
    shrinks = size[0] >= target[0] and size[1] >= target[1]
    return shrinks and bool(size[0] % target[0] or size[1] % target[1])


def area_average(image: Image, target: tuple[int, int]) -> Image:
    """Shrink (H, W, 3) uint8 -> (H', W', 3) uint8, `target` being (W', H'), as `cv2.resize` with INTER_AREA does.

    Raises:
        ValueError: when OpenCV would not weight pixels for this size.
    """
    height, width = image.shape[:2]
    if not is_averaged((width, height), target):
        raise ValueError(f"{width}x{height} to {target[0]}x{target[1]} is not a weighted average of pixels")
    rows, columns = cells(height, target[1]), cells(width, target[0])
    averages = np.empty((target[1], 3 * target[0]), np.uint8)
    _average(image.reshape(height, 3 * width), averages, *rows, *columns, np.float32(_bound(rows, columns)))
    return averages.reshape(target[1], target[0], 3)


def same_as_opencv(image: Image, target: tuple[int, int]) -> bool:
    """Return whether this build of OpenCV reproduces `area_average` for a picture."""
    return np.array_equal(area_average(image, target), cv2.resize(image, target, interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=64)
def cells(size: int, target: int) -> Cells:
    """Return the pixels of each of `target` equal cells that `size` pixels are divided into, and their weights."""
    length = size / target
    starts, pixels, weights = [0], list[int](), list[float]()
    for number in range(target):
        begin, end = number * length, number * length + length
        cell = min(length, size - begin)
        last = min(math.floor(end), size - 1)
        first = min(math.ceil(begin), last)
        if first - begin > _LEAST_SHARE:
            pixels.append(first - 1)
            weights.append((first - begin) / cell)
        pixels += range(first, last)
        weights += [1 / cell] * (last - first)
        if end - last > _LEAST_SHARE:
            pixels.append(last)
            weights.append(min(end - last, 1.0, cell) / cell)
        starts.append(len(pixels))
    return np.array(starts, np.intp), np.array(pixels, np.intp), np.array(weights, np.float32)


def _bound(rows: Cells, columns: Cells) -> float:
    """Bound the difference of the two orders, from roundings per multiplication and addition, and to a half."""
    roundings = int(np.diff(rows[0]).max() + np.diff(columns[0]).max()) + 4
    return 2 * 1.01 * roundings * _ULP * (_LARGEST + 1)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, and cache the machine code on disk if a folder is writable."""
    try:
        compiled: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compiled
def _weigh_rows(
    image: Image,
    rows: NDArray[np.intp],
    weights: NDArray[np.float32],
    start: int,
    stop: int,
    line: NDArray[np.float32],
) -> None:
    """Sum rows into `line`, four at a time, so that it is read and written less often."""
    first, k = image[rows[start]], start + 1
    for i in range(len(line)):
        line[i] = weights[start] * np.float32(first[i])
    while k + 3 < stop:
        a, b, c, d = image[rows[k]], image[rows[k + 1]], image[rows[k + 2]], image[rows[k + 3]]
        of_a, of_b, of_c, of_d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for i in range(len(line)):
            line[i] += (of_a * np.float32(a[i]) + of_b * np.float32(b[i])) + (
                of_c * np.float32(c[i]) + of_d * np.float32(d[i])
            )
        k += 4
    while k < stop:
        last = image[rows[k]]
        for i in range(len(line)):
            line[i] += weights[k] * np.float32(last[i])
        k += 1


@_compiled
def _in_order(
    image: Image,
    rows: NDArray[np.intp],
    row_weights: NDArray[np.float32],
    columns: NDArray[np.intp],
    weights: NDArray[np.float32],
    cell: tuple[int, int, int, int],
    channel: int,
) -> int:
    """Compute one value in OpenCV's order: each row across, then the rows; halves round to even."""
    total = np.float32(0)
    for j in range(cell[0], cell[1]):
        across = np.float32(0)
        for k in range(cell[2], cell[3]):
            across += np.float32(image[rows[j], 3 * columns[k] + channel]) * weights[k]
        total += row_weights[j] * across
    return min(_LARGEST, int(np.rint(total)))


@_compiled
def _average(
    image: Image,
    averages: Image,
    row_starts: NDArray[np.intp],
    rows: NDArray[np.intp],
    row_weights: NDArray[np.float32],
    starts: NDArray[np.intp],
    columns: NDArray[np.intp],
    weights: NDArray[np.float32],
    bound: np.float32,
) -> None:
    """Average (H, 3 W) -> (H', 3 W'), written into `averages`."""
    line = np.empty(image.shape[1], np.float32)
    for y in range(len(averages)):
        _weigh_rows(image, rows, row_weights, row_starts[y], row_starts[y + 1], line)
        for x in range(len(starts) - 1):
            red, green, blue = np.float32(0.5), np.float32(0.5), np.float32(0.5)
            for k in range(starts[x], starts[x + 1]):
                weight, position = weights[k], 3 * columns[k]
                red += weight * line[position]
                green += weight * line[position + 1]
                blue += weight * line[position + 2]
            for channel, value in enumerate((red, green, blue)):
                whole = np.int32(value)
                above = value - np.float32(whole)
                if above < bound or above > np.float32(1) - bound:
                    cell = row_starts[y], row_starts[y + 1], starts[x], starts[x + 1]
                    whole = _in_order(image, rows, row_weights, columns, weights, cell, channel)
                averages[y, 3 * x + channel] = np.uint8(whole)
