"""TDN: the authors' numbers, both modules by their equations, the published checkpoint layouts, preprocessing."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import tdn

PARITY = 1e-4
"""Largest error allowed, relative to the largest value."""


@pytest.fixture
def shallow(monkeypatch):
    """Use networks of two blocks per stage, the second of which keeps the size."""
    for depth in tdn.DEPTHS:
        monkeypatch.setitem(tdn.DEPTHS, depth, (2, 2, 2, 2))


@pytest.fixture
def published(shallow):
    """State of the network alone, under the published keys, with numbers of this test."""
    torch.manual_seed(7)
    state = tdn.TDN("r50", 8, classes=6).state_dict()
    state = {key: torch.rand_like(x) + 0.5 if key.endswith("running_var") else x for key, x in state.items()}
    state = {key.replace("new_fc", "fc"): x for key, x in state.items()}
    return {**state, "conv1_temp.weight": torch.zeros(64, 3, 7, 7), "conv1_temp.bias": torch.zeros(64)}


def as_trained(state):
    """Checkpoint of the training code: wrapped twice, with the classifier and with more than weights."""
    keys = {key: f"module.base_model.{key}" for key in state}
    keys |= {key: f"module.new_{key}" for key in state if key.startswith("fc.")}
    named = {keys[key]: value for key, value in state.items()}
    return {"epoch": 100, "arch": "resnet50", "state_dict": named, "best_prec1": torch.tensor(76.6)}


def clip(segments=8, side=40, count=1):
    return torch.from_numpy(np.tanh(reference_normal("clip", (count, 3, 5 * segments, side, side + 3))))


def refusal(weights, variant="r50-8"):
    with pytest.raises(WeightsError) as caught:
        create_backbone(f"tdn:{variant}", stream="rgb", weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@needs_shared
@pytest.mark.shared
@pytest.mark.parametrize("depth", ["r50", pytest.param("r101", marks=pytest.mark.slow)])
def test_equal_to_the_original(depth):
    folder = SHARED / "reference" / "backbones"
    about = json.loads((folder / f"tdn_{depth}.json").read_text())
    expected = np.load(folder / f"tdn_{depth}.npz")
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in reference_weights(about["state"]).items()}
    net = create_backbone(f"tdn:{depth}-8", stream="rgb", weights=weights)
    frames = torch.from_numpy(np.tanh(reference_normal(f"input:{about['input']}", tuple(about["shape"]))))
    clips = frames.reshape(1, 40, 3, *frames.shape[2:]).transpose(1, 2)
    with torch.inference_mode():
        maps = net.feature_map(clips)
    assert maps.shape == (1, 2048, 8, 7, 7)
    segments = maps.mean(dim=(3, 4))[0].T
    assert error(segments.numpy(), expected["feature"]) < PARITY
    assert error(net.new_fc(segments).detach().numpy(), expected["logits"]) < PARITY
    assert error(maps.mean(dim=(2, 3, 4)).numpy(), expected["feature"].mean(axis=0, keepdims=True)) < PARITY


def test_every_variant_has_its_depth_segments_and_span():
    for variant in tdn.VARIANTS:
        depth, segments = variant.split("-")
        with torch.device("meta"):
            net = tdn.TDN(depth, int(segments))
        assert len(net.layer3_bak) == {"r50": 6, "r101": 23}[depth]
        assert (net.segments, net.span, net.dim, net.crop) == (int(segments), 8 * int(segments), 2048, 224)
        assert net.identity["variant"] == variant
    assert len({json.dumps(net.identity) for net in map(_small, (8, 16))}) == 2
    assert (tdn.STREAMS, tdn.FLOW, tdn.STRIDE, tdn.VARIANTS[0]) == (("rgb",), "", 16, "r101-8")


def _small(segments):
    with torch.device("meta"):
        return tdn.TDN("r50", segments)


@torch.inference_mode()
@pytest.mark.parametrize(("segments", "share"), [(8, 0.5), (16, 0.75)])
def test_differences_are_added_to_the_picture_twice(shallow, segments, share):
    net = create_backbone(f"tdn:r50-{segments}", stream="rgb", weights="random:3")
    frames = torch.rand(2, 5, 3, 48, 56)
    halves = F.avg_pool2d(torch.cat([frames[:, i + 1] - frames[:, i] for i in range(4)], dim=1), 2)
    motion = F.max_pool2d(net.conv1_5(halves), 3, 2, 1)
    picture = F.max_pool2d(F.relu(net.bn1(net.conv1(frames[:, 2]))), 3, 2, 1)
    for layer, added in ((net.layer1_bak, motion), (None, net.resnext_layer1(motion))):
        doubled = added.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        picture = share * picture + (1 - share) * doubled
        picture = layer(picture) if layer else picture
    assert error(net.stem(frames).numpy(), picture.numpy()) < 1e-5


@torch.inference_mode()
def test_neighbouring_segments_excite_channels():
    torch.manual_seed(1)
    module = tdn.SegmentDifference(32, 3).eval()
    x = torch.rand(6, 32, 7, 5)
    reduced = module.bn1(module.conv1(x))
    for i in range(6):
        gates = []
        for other in (i + 1, i - 1):
            there = other // 3 == i // 3
            change = module.conv2(reduced[other : other + 1]) - reduced[i : i + 1] if there else torch.zeros(1, 2, 7, 5)
            gates.append(module.gate(change)[0])
            assert gates[-1].abs().max() <= 0.5
        expected = x[i] * (1 + sum(gates) / 2)
        assert error(module(x)[i].numpy(), expected.numpy()) < 1e-6


@torch.inference_mode()
def test_neighbouring_segments_are_mixed_channel_by_channel():
    module = tdn.SegmentMix(4, 5)
    x = torch.rand(10, 4, 2, 3)
    for video in range(2):
        for row, column in np.ndindex(2, 3):
            expected = module.conv(x[5 * video : 5 * video + 5, :, row, column].T)
            assert torch.allclose(module(x)[5 * video : 5 * video + 5, :, row, column].T, expected, atol=1e-6)


@torch.inference_mode()
def test_forward_is_the_mean_of_the_map_alone_or_in_a_batch(shallow):
    net = create_backbone("tdn:r50-8", stream="rgb", weights="random:0")
    assert not net.training
    clips = clip(count=2, side=64)
    maps, features = net.feature_map(clips), net(clips)
    assert maps.shape == (2, 2048, 8, 2, 3)
    assert torch.equal(features, maps.mean(dim=(2, 3, 4)))
    assert error(net(clips[1:]).numpy(), features[1:].numpy()) < 1e-5
    by_segment = net.new_fc(maps.mean(dim=(3, 4)).transpose(1, 2)).mean(dim=1)
    assert error(net.classify(clips).numpy(), by_segment.numpy()) < 1e-5
    with pytest.raises(RuntimeError):
        net(clip(segments=16))


@pytest.mark.slow
def test_checkpoints_in_the_published_layouts(published, tmp_path):
    alone = {f"module.{key}": value for key, value in published.items()}
    features = []
    for layout in (published, alone, {"state_dict": alone}, as_trained(published)):
        torch.save(layout, tmp_path / "best.pth.tar")
        nets = [create_backbone("tdn:r50-8", "rgb", source) for source in (layout, tmp_path / "best.pth.tar")]
        assert nets[0].identity == nets[1].identity
        assert len(nets[0].identity["weights"]["sha256"]) == 64
        with torch.inference_mode():
            features += [net(clip()) for net in nets]
            assert nets[0].classify(clip()).shape == (1, 6)
        loaded = nets[1].state_dict()
        assert all(torch.equal(loaded[key], x) for key, x in published.items() if not key.startswith(("fc", "conv1_t")))
        assert torch.equal(loaded["new_fc.weight"], published["fc.weight"])
    assert all(torch.equal(features[0], other) for other in features)


def test_a_published_name_takes_the_file_that_was_put_there_by_hand(published, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    for weights in (None, "r50-8-k400"):
        message = refusal(weights)
        assert "must be downloaded by hand" in message
        assert tdn.WEIGHTS["r50-8-k400"].url in message
    (tmp_path / "weights").mkdir()
    torch.save(as_trained(published), tmp_path / "weights" / tdn.WEIGHTS["r50-8-k400"].filename)
    named = create_backbone("tdn:r50-8", "rgb", "r50-8-k400")
    assert named.identity == create_backbone("tdn:r50-8", "rgb", as_trained(published)).identity
    assert "wanted r50-16" in refusal("r50-8-k400", "r50-16")


@pytest.mark.parametrize("key", ["conv1_5.0.weight", "layer4_bak.1.mse.bn3_smallscale2.bias", "fc.bias", "fc.weight"])
def test_keys_that_do_not_fit_are_refused_by_name(published, key):
    lacking = {name: value for name, value in published.items() if name != key}
    shaped = {**published, key: torch.zeros(3, 3)}
    for state in (published, as_trained(published)["state_dict"]):
        wrapped = state is not published
        change = as_trained if wrapped else (lambda found: found)
        assert f"1 missing ({'new_' * key.startswith('fc')}{key})" in refusal(change(lacking))
        assert f"{key} [3, 3]" in refusal(change(shaped))
        assert "unknown (layer1_bak.0.shift.conv.weight)" in refusal(
            change({**published, "layer1_bak.0.shift.conv.weight": torch.zeros(64, 1, 3)})
        )
    assert refusal(lacking).startswith("tdn r50-8 weights: the keys do not fit: ")


def test_two_classifiers_and_other_depths_are_refused(published, monkeypatch):
    both = {**published, "new_fc.weight": published["fc.weight"], "new_fc.bias": published["fc.bias"]}
    assert "2 unknown (fc.weight, fc.bias)" in refusal(both)
    twice = {**published, "base_model.conv1.bias": published["conv1.bias"]}
    assert "1 unknown (base_model.conv1.bias)" in refusal(twice)
    monkeypatch.setitem(tdn.DEPTHS, "r101", (2, 2, 3, 2))
    assert "missing (layer3_bak.2.conv1.weight" in refusal(published, "r101-8")
    assert "missing" in refusal({"weight": torch.zeros(1)})


def test_unknown_streams_and_variants_are_refused():
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("tdn", stream="flow", weights="random:0")
    with pytest.raises(UsageError, match="no variant 'r152-8'"):
        create_backbone("tdn:r152-8", stream="rgb", weights="random:0")


@pytest.mark.slow
@torch.inference_mode()
def test_random_weights_keep_the_scale_and_say_so():
    net = create_backbone("tdn", stream="rgb", weights="random:0")
    same, other = (create_backbone("tdn:r50-8", stream="rgb", weights=f"random:{seed}") for seed in (0, 1))
    assert net.identity["variant"] == "r101-8"
    assert [found.identity["weights"] for found in (net, same, other)] == [{"random": 0}, {"random": 0}, {"random": 1}]
    features = net(clip())
    assert 0.01 < features.std() < 100
    assert error(net(clip().flip(2)).numpy(), features.numpy()) > 1e-3
    again = create_backbone("tdn:r50-8", stream="rgb", weights="random:0")
    assert torch.equal(same(clip()), again(clip()))
    assert not torch.equal(same(clip()), other(clip()))


def test_five_frames_in_the_middle_of_every_segment():
    assert tdn.picked_frames(64, 8).reshape(8, 5).tolist() == [[8 * s + i for i in range(1, 6)] for s in range(8)]
    assert tdn.picked_frames(128, 16).reshape(16, 5)[:, 2].tolist() == list(range(3, 128, 8))
    assert tdn.picked_frames(40, 8).tolist() == list(range(40))
    assert tdn.picked_frames(1, 8).tolist() == [0] * 40
    for length in range(1, 70):
        picked = tdn.picked_frames(length, 8)
        assert len(picked) == 40
        assert 0 <= picked.min() <= picked.max() < length


def test_frames_are_picked_cut_and_normalised(shallow):
    net = create_backbone("tdn:r50-8", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 256, 341, 3), np.uint8)
    kept = frames.copy()
    clips = net.preprocess(frames)
    assert (clips.shape, clips.dtype) == ((1, 3, 40, 224, 224), torch.float32)
    for place, frame in ((0, 1), (4, 5), (5, 9), (39, 61)):
        cut = frames[0, frame, 16:240, 58:282].astype(np.float64)
        expected = (cut / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        assert np.abs(clips[0, :, place].numpy() - expected.transpose(2, 0, 1)).max() < 1e-5
    assert (frames == kept).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 18), (33, 65), (47, 240)])
def test_small_and_odd_pictures(shallow, height, width):
    net = create_backbone("tdn:r50-8", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, height, width, 3), np.uint8)
    assert net.preprocess(frames).shape == (1, 3, 40, height, min(width, 224))
    features = net.extract(frames)
    assert (features.shape, features.dtype) == ((1, 2048), np.float32)
    assert np.isfinite(features).all()


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = create_backbone("tdn:r50-8", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 128, 3), np.uint8)
    on_cpu = net.extract(frames)
    assert error(net.to(cuda).extract(frames), on_cpu) < 1e-3


def test_weights_are_documented():
    assert {weights.variant for weights in tdn.WEIGHTS.values()} == set(tdn.VARIANTS)
    assert len({weights.filename for weights in tdn.WEIGHTS.values()}) == len(tdn.VARIANTS)
    for weights in tdn.WEIGHTS.values():
        assert weights.by_hand
        assert weights.url.startswith("https://")
        assert (weights.stream, weights.licence, weights.sha256) == ("rgb", "Apache-2.0", None)
        assert 0 < min(weights.accuracy.values()) < 100
