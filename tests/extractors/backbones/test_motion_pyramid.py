"""The weight-free pyramid: exactness, symmetries, cuts, camera, several bodies, rhythm, pictures of any size."""

import json

import numpy as np
import pytest
import torch

from wtal.errors import UsageError, WeightsError
from wtal.extractors import dense_histograms
from wtal.extractors.backbones import create_backbone
from wtal.extractors.backbones import motion_pyramid as leaf

SPAN = leaf.SPAN
STREAMS = ("rgb", "flow")
BODY = {"flow": 850, "rgb": 400}
PICTURE = {"flow": slice(850, 1156), "rgb": slice(400, 656)}
RHYTHM = slice(1156, 1332)


@pytest.fixture(scope="module")
def backbones():
    return {name: create_backbone("motion-pyramid", name) for name in STREAMS}


def frames(stream, clips=1, height=60, width=80, seed=0, length=SPAN, at=((6, 14),)):
    """Frames or flow with squares that move to the right on a still background, a pixel in two frames."""
    rng = np.random.default_rng(seed)
    flow = np.zeros((clips, length, height, width, 2), np.float32)
    gray = np.full((clips, length, height, width, 3), 90, np.uint8)
    for column, row in at:
        pattern = rng.integers(0, 255, (clips, 12, 10, 1), np.uint8)
        motions = rng.uniform(-2, 2, (clips, length, 12, 10, 2)).astype(np.float32)
        for j in range(length):
            x = column + j // 2
            flow[:, j, row : row + 12, x : x + 10] = motions[:, j] + (1, 0)
            gray[:, j, row : row + 12, x : x + 10] = pattern
    return gray if stream == "rgb" else flow


def mirrored(stream, x):
    return np.ascontiguousarray(x[:, :, :, ::-1]) * (1 if stream == "rgb" else np.array([-1, 1], np.float32))


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize(("stream", "dim"), [("rgb", 656), ("flow", 1332)])
def test_dimensions(backbones, stream, dim):
    backbone = backbones[stream]
    features = backbone.extract(frames(stream, 2))
    assert features.shape == (2, dim)
    assert backbone.dim == dim
    assert f"D = {dim}" in leaf.__doc__
    assert features.min() >= 0
    assert features.max() <= 1
    assert features.any(axis=1).all()
    assert not backbone.is_network
    json.dumps(backbone.identity, allow_nan=False)


@pytest.mark.parametrize("stream", STREAMS)
def test_bits_depend_on_the_clip_alone(backbones, stream):
    backbone = backbones[stream]
    x = frames(stream, clips=4)
    whole = backbone.extract(x)
    for cache in (dense_histograms._flow_cells, dense_histograms._gray_cells):
        cache.cache_clear()
    np.testing.assert_array_equal(np.concatenate([backbone.extract(x[i : i + 1]) for i in range(4)]), whole)
    np.testing.assert_array_equal(backbone.extract(x[::-1])[::-1], whole)
    contiguous = np.ascontiguousarray(backbone.preprocess(x))
    np.testing.assert_array_equal(backbone.features(contiguous), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads == 1 else 1)
        np.testing.assert_array_equal(backbone.extract(x), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("stream", STREAMS)
def test_sums_of_fields_are_exact(backbones, stream):
    clip = backbones[stream].preprocess(frames(stream))[0]
    cells = backbones[stream].cells(clip)
    rows, columns = (leaf.tents(5.25, 2.7, size, 5) for size in cells.energy.shape[1:])
    fields = leaf.pooled(cells.histograms, rows, columns)
    order = np.random.default_rng(0).permutation(len(cells.at))
    np.testing.assert_array_equal(leaf.pooled(cells.histograms[order], rows, columns), fields)
    moving = leaf.pooled(cells.histograms, rows, np.broadcast_to(columns, (len(order), *columns.shape)))
    np.testing.assert_array_equal(moving, fields)
    scaled = fields * 2.0**16
    np.testing.assert_array_equal(scaled, np.rint(scaled))
    assert scaled.sum() < 2.0**53


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 1), (61, 81), (200, 130)])
def test_any_size_of_picture(backbones, stream, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (1, 20, *shape, 3), np.uint8)
    x = x if stream == "rgb" else rng.normal(0, 3, (1, 20, *shape, 2)).astype(np.float32)
    features = backbones[stream].extract(x)
    assert features.shape == (1, backbones[stream].dim)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("length", [1, 2, 3, 25, 90])
def test_any_length_of_clip(backbones, stream, length):
    features = backbones[stream].extract(frames(stream, length=length))
    assert features.shape == (1, backbones[stream].dim)
    assert np.isfinite(features).all()


def test_still_clips_give_zeros_but_for_the_standing_still(backbones):
    flow = backbones["flow"].extract(np.zeros((1, SPAN, 60, 80, 2), np.float32))[0]
    still = [*range(15), *range(850, 856)]
    assert (flow[still] > 0).all()
    assert not np.delete(flow, still).any()
    assert not backbones["rgb"].extract(np.full((1, SPAN, 60, 80, 3), 128, np.uint8)).any()


@pytest.mark.parametrize("stream", STREAMS)
def test_left_and_right_are_one(backbones, stream):
    x = frames(stream, at=((6, 14), (30, 40)))
    np.testing.assert_allclose(backbones[stream].extract(mirrored(stream, x)), backbones[stream].extract(x), atol=0.05)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_body_may_be_anywhere_and_the_picture_says_where(backbones, stream):
    x = frames(stream)
    before, after = (backbones[stream].extract(y)[0] for y in (x, np.roll(x, (24, 12), axis=(2, 3))))
    body, picture = slice(None, BODY[stream]), PICTURE[stream]
    assert cosine(before[body], after[body]) > 0.97
    assert cosine(before[picture], after[picture]) < 0.9


def test_two_bodies_are_seen_where_one_grid_sits_between_them():
    """Turn the motion of the second, distant body by a quarter, which `motion` does not notice."""
    old, new = (create_backbone(name, "flow") for name in ("motion", "motion-pyramid"))
    changes = []
    for backbone in (old, new):
        x = frames("flow", length=backbone.span, width=240, at=((6, 14), (190, 20)))
        turned = x.copy()
        turned[:, :, :, 120:] = x[:, :, :, 120:, ::-1]
        changes.append(1 - cosine(*(backbone.extract(y)[0] for y in (x, turned))))
    assert changes[0] < 0.01
    assert changes[1] > 0.02


def test_the_camera_is_taken_away(backbones):
    x = frames("flow")
    rows, columns = np.mgrid[:60, :80].astype(np.float32)
    camera = np.stack([3 + 0.02 * columns - 0.01 * rows, -1 + 0.01 * columns + 0.02 * rows], axis=2)
    assert cosine(backbones["flow"].extract(x + camera), backbones["flow"].extract(x)) > 0.99


def test_rhythm_tells_the_period_and_not_the_phase(backbones):
    def swing(period, phase=0.0):
        x = np.zeros((1, SPAN, 60, 80, 2), np.float32)
        speed = 3 * np.sin(2 * np.pi * (np.arange(SPAN) / period + phase))
        x[0, :, 20:40, 30:50, 0] = speed[:, None, None]
        return backbones["flow"].extract(x)[0][RHYTHM]

    assert cosine(swing(16), swing(16, 0.3)) > 0.95
    assert cosine(swing(16), swing(8)) < 0.7
    directions = swing(16)[96:].reshape(leaf.PERIODS, 5).sum(1)
    assert directions.argmax() + 1 == SPAN // 16


@pytest.mark.parametrize("behind", [True, False])
def test_a_flow_cut_hides_the_other_shot(backbones, behind):
    x, other = frames("flow"), frames("flow", seed=5) * 0.5
    cut = SPAN // 2 + 5 if behind else SPAN // 2 - 5
    side = slice(cut + 1, None) if behind else slice(None, cut)
    x[:, cut] = np.random.default_rng(1).normal(0, 20, x[:, cut].shape)
    replaced = x.copy()
    replaced[:, side] = other[:, side]
    np.testing.assert_array_equal(backbones["flow"].extract(replaced), backbones["flow"].extract(x))


@pytest.mark.parametrize("behind", [True, False])
def test_a_picture_cut_hides_the_other_shot(backbones, behind):
    x = frames("rgb")
    replaced = x.copy()
    side = slice(SPAN // 2 + 4, None) if behind else slice(None, SPAN // 2 - 4)
    x[:, side] = 255 - x[:, side] // 2
    replaced[:, side] = 30
    np.testing.assert_array_equal(backbones["rgb"].extract(replaced), backbones["rgb"].extract(x))


def test_what_stands_in_beyond_the_ends_does_not_count(backbones):
    x = frames("flow")
    padded, other = x.copy(), x.copy()
    padded[:, :20], other[:, :20] = x[:, 20:21], x[:, 20:21]
    cells = backbones["flow"].cells(backbones["flow"].preprocess(padded)[0])
    assert cells.at.min() == 20
    assert cells.at.max() == SPAN - leaf.STEP


def test_size_of_the_frames_hardly_matters(backbones):
    x = frames("flow")
    enlarged = np.kron(x, np.ones((1, 1, 2, 2, 1), np.float32)) * 2
    assert cosine(backbones["flow"].extract(enlarged), backbones["flow"].extract(x)) > 0.97


def test_a_frame_is_described_once_for_all_its_clips(backbones):
    dense_histograms._flow_cells.cache_clear()
    x = frames("flow", length=SPAN + 3 * leaf.STRIDE)[0]
    clips = np.stack([x[i * leaf.STRIDE : i * leaf.STRIDE + SPAN] for i in range(4)])
    backbones["flow"].extract(clips)
    assert dense_histograms._flow_cells.cache_info().misses == len(x) // leaf.STEP


def test_refuses_weights_and_unknown_streams():
    with pytest.raises(WeightsError, match="no weights"):
        create_backbone("motion-pyramid", "rgb", "random:0")
    with pytest.raises(UsageError, match="flow, rgb"):
        create_backbone("motion-pyramid", "audio")
