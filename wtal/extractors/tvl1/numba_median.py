"""Median filters of 3 x 3 and 5 x 5, sixteen pixels at once, by networks of minima and maxima.

The columns of a window are sorted once for all windows that contain them. Then the rows of the sorted columns are
sorted: 12 of 25 values are then known not to be the median, and the seventh of the other 13 is found by dropping the
smallest and the largest of some until three are left.
"""

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.tvl1.numba_simd import LANES, Vector, kernel, least, load, most, part, store

Floats = NDArray[np.float32]
AROUND = 2
"""Rows above and below, and columns to either side, used by the filters."""


@kernel
def medians(
    source: Floats, at: int, pitch: int, size: int, count: int, columns: Floats, target: Floats, to: int
) -> None:
    """Write a row of `count` medians of `size` (3 or 5), from `source` around `at`, rows `pitch` apart, to `target`.

    A multiple of sixteen is written. `columns` is space for five rows of count + 64. The source is read from 16
    positions before the row to 31 after it.
    """
    wide = (count + LANES - 1) // LANES * LANES + 2 * LANES
    for x in range(0, wide, LANES):
        if size == 3:
            _sort_column_of_3(source, at - LANES + x, pitch, columns, x, wide)
        else:
            _sort_column_of_5(source, at - LANES + x, pitch, columns, x, wide)
    for x in range(0, count, LANES):
        if size == 3:
            store(target, to + x, _median_of_9(columns, x + LANES - 1, wide))
        else:
            store(target, to + x, _median_of_25(columns, x + LANES - 2, wide))


@part
def _sort_column_of_3(source: Floats, at: int, pitch: int, columns: Floats, to: int, wide: int) -> None:
    a, b, c = _sorted_3(load(source, at - pitch), load(source, at), load(source, at + pitch))
    store(columns, to, a)
    store(columns, to + wide, b)
    store(columns, to + 2 * wide, c)


@part
def _sort_column_of_5(source: Floats, at: int, pitch: int, columns: Floats, to: int, wide: int) -> None:
    top = at - 2 * pitch
    a, b = load(source, top), load(source, top + pitch)
    d, e = load(source, top + 3 * pitch), load(source, top + 4 * pitch)
    a, b, c, d, e = _sorted_5(a, b, load(source, at), d, e)
    store(columns, to, a)
    store(columns, to + wide, b)
    store(columns, to + 2 * wide, c)
    store(columns, to + 3 * wide, d)
    store(columns, to + 4 * wide, e)


@part
def _median_of_9(columns: Floats, at: int, wide: int) -> Vector:
    """Return the median of: the largest column minimum, the median of column medians, the smallest column maximum."""
    low = most(most(load(columns, at), load(columns, at + 1)), load(columns, at + 2))
    at += wide
    middle = _middle_of_3(load(columns, at), load(columns, at + 1), load(columns, at + 2))
    at += wide
    high = least(least(load(columns, at), load(columns, at + 1)), load(columns, at + 2))
    return _middle_of_3(low, middle, high)


@part
def _median_of_25(columns: Floats, at: int, wide: int) -> Vector:
    """Return the median, given sorted rows and columns: values with 13 or more above, or below, are excluded."""
    _, _, _, a, b = _sorted_row(columns, at)
    _, _, c, d, e = _sorted_row(columns, at + wide)
    _, f, g, h, _ = _sorted_row(columns, at + 2 * wide)
    i, j, k, _, _ = _sorted_row(columns, at + 3 * wide)
    n, m, _, _, _ = _sorted_row(columns, at + 4 * wide)
    # a, c, f or i is the smallest of the 13; e, h, k or m the largest.
    a, c = _ordered(a, c)
    f, i = _ordered(f, i)
    e, h = _ordered(e, h)
    k, m = _ordered(k, m)
    b, c, e, f, h = _drop_of_7(most(a, f), b, c, e, least(h, m), i, k)
    b, c, e, f = _drop_of_6(b, c, e, f, h, g)
    b, c, e = _drop_of_5(b, c, e, f, j)
    b, c = _drop_of_4(b, c, e, n)
    return _middle_of_3(b, c, d)


@part
def _sorted_row(columns: Floats, at: int) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    a, b, c = load(columns, at), load(columns, at + 1), load(columns, at + 2)
    return _sorted_5(a, b, c, load(columns, at + 3), load(columns, at + 4))


@part
def _ordered(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    return least(a, b), most(a, b)


@part
def _sorted_3(a: Vector, b: Vector, c: Vector) -> tuple[Vector, Vector, Vector]:
    a, b = _ordered(a, b)
    b, c = _ordered(b, c)
    a, b = _ordered(a, b)
    return a, b, c


@part
def _sorted_5(a: Vector, b: Vector, c: Vector, d: Vector, e: Vector) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    a, b = _ordered(a, b)
    d, e = _ordered(d, e)
    c, e = _ordered(c, e)
    c, d = _ordered(c, d)
    a, d = _ordered(a, d)
    a, c = _ordered(a, c)
    b, e = _ordered(b, e)
    b, d = _ordered(b, d)
    b, c = _ordered(b, c)
    return a, b, c, d, e


@part
def _middle_of_3(a: Vector, b: Vector, c: Vector) -> Vector:
    return most(least(a, b), least(most(a, b), c))


@part
def _drop_of_7(
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector, g: Vector
) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """Drop the smallest and the largest of seven values."""
    a, b = _ordered(a, b)
    c, d = _ordered(c, d)
    e, f = _ordered(e, f)
    a, c = _ordered(a, c)
    a, e = _ordered(a, e)
    b, d = _ordered(b, d)
    d, f = _ordered(d, f)
    return b, c, d, e, least(most(a, g), f)


@part
def _drop_of_6(
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector
) -> tuple[Vector, Vector, Vector, Vector]:
    a, b = _ordered(a, b)
    c, d = _ordered(c, d)
    e, f = _ordered(e, f)
    a, c = _ordered(a, c)
    b, d = _ordered(b, d)
    return b, c, most(a, e), least(d, f)


@part
def _drop_of_5(a: Vector, b: Vector, c: Vector, d: Vector, e: Vector) -> tuple[Vector, Vector, Vector]:
    a, b = _ordered(a, b)
    c, d = _ordered(c, d)
    a, c = _ordered(a, c)
    b, d = _ordered(b, d)
    return b, c, least(most(a, e), d)


@part
def _drop_of_4(a: Vector, b: Vector, c: Vector, d: Vector) -> tuple[Vector, Vector]:
    a, b = _ordered(a, b)
    c, d = _ordered(c, d)
    return most(a, c), least(b, d)
