"""Histograms in cells: votes restore vectors, speeds share a pixel, everything is counted in its cell."""

import numpy as np
import pytest

from wtal.extractors import dense_histograms as dense

MIDDLES = np.arange(8) * np.pi / 4


def flow_of(vectors, side=60):
    """Flow (2, side, side) with vectors (2,) or (..., 2) in points and a still border."""
    flow = np.zeros((2, side, side), np.float32)
    flow[:, 25:35, 25:35] = np.moveaxis(np.broadcast_to(vectors, (10, 10, 2)), 2, 0)
    return flow


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 17))
def test_directions_rebuild_the_vector(angle):
    vector = 3 * np.array([np.cos(angle), np.sin(angle)])
    cells, _ = dense.flow_cells(flow_of(vector), 1)
    votes = cells[..., 10:18].sum((0, 1)) / dense.UNIT / 100
    assert (votes > 0).sum() <= 2
    assert votes @ np.cos(MIDDLES) == pytest.approx(vector[0], abs=0.03)
    assert votes @ np.sin(MIDDLES) == pytest.approx(vector[1], abs=0.03)


def test_speed_bins_share_every_pixel():
    cells, energy = dense.flow_cells(flow_of([2.5, 0]), 1)
    speeds = cells[..., :10].sum((0, 1)) / dense.UNIT
    assert speeds.sum() == 3600
    assert speeds[0] == 3500
    assert speeds[4:6] == pytest.approx([50, 50])
    assert energy.sum() == pytest.approx(100 * dense.UNIT * (2.5 - dense.FLOW_FLOOR), rel=0.01)


def test_cells_are_where_the_motion_is():
    _, energy = dense.flow_cells(flow_of([2.5, 0]), 1)
    rows, columns = np.nonzero(energy)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 8, 11)


def test_flow_without_bounds_is_cut():
    cells, _ = dense.flow_cells(flow_of([1e9, -1e9]), 1)
    assert cells.min() >= 0
    assert cells[..., 17].sum() == pytest.approx(100 * 120 * np.sqrt(2) * dense.UNIT, rel=0.01)


def test_orientations_are_those_of_edges():
    gray = np.full((60, 60), 50, np.uint8)
    gray[:, 30:] = 150
    across, _ = dense.gray_cells(gray, gray, gray)
    down, _ = dense.gray_cells(gray.T.copy(), gray.T.copy(), gray.T.copy())
    assert np.flatnonzero(across.sum((0, 1))).tolist() == [0]
    assert np.flatnonzero(down.sum((0, 1))).tolist() == [4]
    opposite, _ = dense.gray_cells(255 - gray, 255 - gray, 255 - gray)
    np.testing.assert_array_equal(opposite, across)


def test_only_what_changes_moves():
    still = np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8)
    after = still.copy()
    after[:20, :20] ^= 128
    cells, energy = dense.gray_cells(still, still, after)
    assert energy[:6, :6].all()
    assert not energy[8:, 8:].any()
    assert cells[:4, :4, 8:].sum((0, 1)).all()
    assert not cells[9:, 9:, 8:].any()
    assert cells[9:, 9:, :8].any()


@pytest.mark.parametrize("shape", [(60, 80), (121, 90), (1, 1), (20, 400)])
def test_twenty_cells_on_the_shorter_side(shape):
    cells, energy = dense.flow_cells(np.zeros((2, *shape), np.float32), 1)
    assert cells.shape == (*energy.shape, 34)
    assert min(energy.shape) == min(20, *shape)
    pixels = cells[..., 0] // dense.UNIT
    assert pixels.sum() == np.prod(shape)
    assert pixels.min() >= 1
    if shape[1] % 2 == 0 and shape[1] != 90:  # where four and a half pixels make a cell
        np.testing.assert_array_equal(pixels, pixels[:, ::-1])
