"""Grids of overlapping fields over the cells of `dense_histograms`: around moving bodies, and over the whole picture.

Sums are of integers times binary fractions, which float64 adds without error in any order.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]


def body_of(energy: Counts) -> tuple[Floats, float, float, float]:
    """Locate (n, rows, columns) energy of frames -> centre column (n,), on a line, row, mean absolute spreads.

    Spreads are across and down. The line is the energy-weighted least-squares fit, its slope shrunk as if the time's
    variance were 0.5 larger. All in cells; if nothing moves, the centre is the picture's.
    """
    time, ys, xs = (np.arange(count, dtype=np.float64) for count in energy.shape)
    by_column, by_row = energy.sum(1, dtype=np.float64), energy.sum((0, 2), dtype=np.float64)
    mass, moment = by_column.sum(1), by_column @ xs
    total = mass.sum()
    if total == 0:
        return np.full(len(time), xs[-1] / 2), float(ys[-1] / 2), 0.0, 0.0
    mean_time, mean_x = mass @ time / total, moment.sum() / total
    variance = mass @ (time * time) / total - mean_time * mean_time
    covariance = moment @ time / total - mean_time * mean_x
    column = on_grid(mean_x + covariance / (variance + 0.5) * (time - mean_time), 16)
    row = on_grid(by_row @ ys / total, 16)
    across = (by_column * np.abs(xs - column[:, None])).sum() / total
    return column, float(row), float(across), float(by_row @ np.abs(ys - row) / total)


def tents(middle: Floats | float, distance: float, cells: int, fields: int) -> Floats:
    """Map (...) centres -> (..., fields, cells) linear weights of cells in fields `distance` apart around each."""
    centres = np.asarray(middle)[..., None] + (np.arange(fields) - (fields - 1) / 2) * distance
    return on_grid((1 - np.abs(np.arange(cells) - centres[..., None]) / distance).clip(min=0), 256)


def pooled(histograms: Counts, rows: Floats, columns: Floats) -> Floats:
    """Sum (n, R, C, bins), (rows, R), (n, columns, C) or (columns, C) -> (bins, rows, columns) over frames and cells.

    Frames are added first if the columns are fixed.
    """
    if columns.ndim == 2:
        histograms, columns = histograms.sum(0, keepdims=True, dtype=np.int64), columns[None]
    count, height, width, bins = histograms.shape
    by_row = (rows @ histograms.reshape(count, height, -1)).reshape(count, len(rows), width, bins)
    fields: Floats = (columns[:, None] @ by_row).sum(0)
    return np.moveaxis(fields, 2, 0)


def over_picture(histograms: Counts, fields: int) -> Floats:
    """Sum (n, R, C, bins) -> (bins, fields, fields) in a grid over all cells."""
    height, width = histograms.shape[1:3]
    rows, columns = (tents((cells - 1) / 2, cells / fields, cells, fields) for cells in (height, width))
    return pooled(histograms, rows, columns)


def folded(block: Floats, mirror: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return half the sum and half the absolute difference of (bins, rows, columns) and its mirror image, flat.

    `mirror` is the mirror image of each bin; of two bins that are mirror images, the first is kept.
    """
    mirrored = block[list(mirror), :, ::-1]
    even, odd = _representatives(mirror, *block.shape[1:])
    return (block + mirrored).ravel()[even] / 2, np.abs(block - mirrored).ravel()[odd] / 2


def root_shares(values: Floats, least: float) -> Floats:
    """Return square roots of the share of each value in their sum plus `least` (RootSIFT)."""
    shares: Floats = np.sqrt(values / (values.sum() + least))
    return shares


def on_grid(values: Floats, steps: int) -> Floats:
    """Round to multiples of 1 / steps, so that sums of products are exact."""
    rounded: Floats = np.rint(np.asarray(values) * steps) / steps
    return rounded


@lru_cache(64)
def _representatives(mirror: tuple[int, ...], rows: int, columns: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return flattened positions (bin, row, column), one per mirror pair: of the even part, of the odd part."""
    positions = np.arange(len(mirror) * rows * columns).reshape(len(mirror), rows, columns)
    twins = positions[list(mirror), :, ::-1]
    return positions[positions <= twins], positions[positions < twins]
