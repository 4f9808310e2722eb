"""The weight-free descriptor: exactness, symmetries, cuts, camera, small pictures."""

import json

import numpy as np
import pytest
import torch

from wtal.errors import UsageError, WeightsError
from wtal.extractors.backbones import create_backbone, motion

SPAN = motion.SPAN
STREAMS = ("rgb", "flow")


def frames(stream, clips=2, height=48, width=64, seed=0, length=SPAN):
    """Frames or flow for a stream: a moving square on a still background."""
    rng = np.random.default_rng(seed)
    flow = np.zeros((clips, length, height, width, 2), np.float32)
    gray = np.full((clips, length, height, width, 3), 90, np.uint8)
    pattern = rng.integers(0, 255, (clips, 12, 10, 1), np.uint8)
    motions = rng.uniform(-4, 4, (clips, length, 12, 10, 2)).astype(np.float32)
    for j in range(length):
        x, y = 6 + j, 14
        flow[:, j, y : y + 12, x : x + 10] = motions[:, j] + (2, 0)
        gray[:, j, y : y + 12, x : x + 10] = pattern
    return gray if stream == "rgb" else flow


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize(("stream", "dim"), [("rgb", 400), ("flow", 850)])
def test_dimensions(stream, dim):
    backbone = create_backbone("motion", stream)
    features = backbone.extract(frames(stream))
    assert features.shape == (2, dim)
    assert backbone.dim == dim
    assert f"D = {dim}" in motion.__doc__
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert features.max() <= 1
    assert features.any(axis=1).all()
    clips = backbone.preprocess(frames(stream))
    assert backbone.feature_map(clips).shape == (2, dim, SPAN // motion.STEP)
    assert list(backbone.parameters()) == []
    json.dumps(backbone.identity, allow_nan=False)


@pytest.mark.parametrize("stream", STREAMS)
def test_bits_depend_on_the_clip_alone(stream):
    backbone = create_backbone("motion", stream)
    x = frames(stream, clips=5)
    whole = backbone.extract(x)
    np.testing.assert_array_equal(np.concatenate([backbone.extract(x[i : i + 1]) for i in range(5)]), whole)
    np.testing.assert_array_equal(backbone.extract(x[::-1])[::-1], whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads == 1 else 1)
        np.testing.assert_array_equal(backbone.extract(x), whole)
    finally:
        torch.set_num_threads(threads)


def test_sums_are_exact():
    backbone = create_backbone("motion", "flow")
    clip = backbone.preprocess(frames("flow", 1))[0]
    histograms, _ = backbone.cells(clip)
    order = torch.randperm(len(histograms), generator=torch.Generator().manual_seed(0))
    assert torch.equal(histograms.sum(0), histograms[order].sum(0))
    scaled = histograms * 2.0**30
    assert torch.equal(scaled, scaled.round())
    assert float(scaled.abs().sum()) < 2.0**53


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 1), (121, 81)])
def test_any_size_of_picture(stream, shape):
    backbone = create_backbone("motion", stream)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (1, SPAN, *shape, 3), np.uint8)
    x = x if stream == "rgb" else rng.normal(0, 3, (1, SPAN, *shape, 2)).astype(np.float32)
    features = backbone.extract(x)
    assert features.shape == (1, backbone.dim)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_any_length_of_clip(stream, length):
    backbone = create_backbone("motion", stream)
    features = backbone.extract(frames(stream, 1, length=length, width=80))
    assert features.shape == (1, backbone.dim)
    assert np.isfinite(features).all()


def test_silent_clips_give_zeros_but_for_the_standing_still():
    flow = create_backbone("motion", "flow").extract(np.zeros((1, SPAN, 48, 64, 2), np.float32))[0]
    assert np.isfinite(flow).all()
    still = 15
    assert (flow[:still] > 0).all()
    assert not flow[still:].any()
    rgb = create_backbone("motion", "rgb").extract(np.full((1, SPAN, 48, 64, 3), 128, np.uint8))
    assert not rgb.any()


@pytest.mark.parametrize("stream", STREAMS)
def test_left_and_right_are_one(stream):
    backbone = create_backbone("motion", stream)
    x = frames(stream, 1, width=60, height=60)
    mirrored = np.ascontiguousarray(x[:, :, :, ::-1])
    if stream == "flow":
        mirrored = mirrored * np.array([-1, 1], np.float32)
    np.testing.assert_allclose(backbone.extract(mirrored), backbone.extract(x), atol=0.02)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_place_in_the_picture_does_not_matter(stream):
    backbone = create_backbone("motion", stream)
    x = frames(stream, 1, height=60, width=80)
    moved = np.roll(x, (10, 24), axis=(2, 3))
    assert cosine(backbone.extract(moved), backbone.extract(x)) > 0.97


def test_the_camera_is_taken_away():
    backbone = create_backbone("motion", "flow")
    x = frames("flow", 1, height=60, width=80)
    rows, columns = np.mgrid[:60, :80].astype(np.float32)
    camera = np.stack([3 + 0.02 * columns - 0.01 * rows, -1 + 0.01 * columns + 0.02 * rows], axis=2)
    assert cosine(backbone.extract(x + camera), backbone.extract(x)) > 0.99


def test_fast_and_slow_differ():
    backbone = create_backbone("motion", "flow")
    x = frames("flow", 1)
    fast, slow = backbone.extract(x)[0], backbone.extract(x * 0.4)[0]
    assert cosine(fast[: motion.CELLS**2 * len(motion.SPEEDS)], slow[: motion.CELLS**2 * len(motion.SPEEDS)]) < 0.97


@pytest.mark.parametrize("behind", [True, False])
def test_a_flow_cut_hides_the_other_shot(behind):
    backbone = create_backbone("motion", "flow")
    x, other = frames("flow", 1), frames("flow", 1, seed=5) * 0.5
    cut = SPAN // 2 + 3 if behind else SPAN // 2 - 3
    side = slice(cut + 1, None) if behind else slice(None, cut)
    x[:, cut] = np.random.default_rng(1).normal(0, 20, x[:, cut].shape)
    replaced = x.copy()
    replaced[:, side] = other[:, side]
    np.testing.assert_array_equal(backbone.extract(replaced), backbone.extract(x))


@pytest.mark.parametrize("behind", [True, False])
def test_a_picture_cut_hides_the_other_shot(behind):
    backbone = create_backbone("motion", "rgb")
    x = frames("rgb", 1)
    replaced = x.copy()
    side = slice(SPAN // 2 + 4, None) if behind else slice(None, SPAN // 2 - 4)
    x[:, side] = 255 - x[:, side] // 2
    replaced[:, side] = 30
    np.testing.assert_array_equal(backbone.extract(replaced), backbone.extract(x))


def test_size_of_the_frames_hardly_matters():
    backbone = create_backbone("motion", "flow")
    x = frames("flow", 1, height=60, width=80)
    enlarged = np.kron(x, np.ones((1, 1, 4, 4, 1), np.float32)) * 4
    np.testing.assert_allclose(backbone.extract(enlarged), backbone.extract(x), atol=0.02)


def test_directions_rebuild_the_vector():
    angles = torch.linspace(0, 6.28, 50)
    x, y = (3 * angles.cos()).reshape(1, 1, -1), (3 * angles.sin()).reshape(1, 1, -1)
    bins = motion._directions(x, y)
    middles = torch.arange(8) * torch.pi / 4
    assert (bins > 0).sum(1).max() <= 2
    torch.testing.assert_close((bins * middles.cos()[:, None, None]).sum(1), x, atol=0.03, rtol=0)
    torch.testing.assert_close((bins * middles.sin()[:, None, None]).sum(1), y, atol=0.03, rtol=0)
    torch.testing.assert_close(motion._orientations(x, y), motion._orientations(-x, -y))


def test_speed_bins_share_every_pixel():
    speed = torch.tensor([0.0, 0.25, 1.7, 5.0, 12.0, 300.0]).reshape(1, 1, -1)
    bins = motion._speed_bins(speed)
    torch.testing.assert_close(bins.sum(1), torch.ones_like(speed))
    assert bins.min() >= 0
    torch.testing.assert_close((bins * torch.tensor(motion.SPEEDS)[:, None, None]).sum(1), speed.clamp(max=12.0))


def test_refuses_weights_and_unknown_streams():
    with pytest.raises(WeightsError, match="no weights"):
        create_backbone("motion", "rgb", "random:0")
    with pytest.raises(UsageError, match="flow, rgb"):
        create_backbone("motion", "audio")
