"""Inception-I3D: the authors' numbers, the published checkpoint layout, preprocessing."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import i3d

PARITY = 1e-4
"""Largest error allowed, relative to the largest value."""


@pytest.fixture(scope="module")
def published():
    """State in the published layout with numbers of this test; without the keys that old checkpoints lack."""
    net = i3d.InceptionI3D("rgb")
    i3d.randomise(net, 5)
    return {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}


def clip(stream="rgb", length=9, side=64):
    return torch.from_numpy(np.tanh(reference_normal("clip", (1, i3d._CHANNELS[stream], length, side, side))))


def refusal(weights, stream="rgb"):
    with pytest.raises(WeightsError) as caught:
        create_backbone("i3d", stream=stream, weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@needs_shared
@pytest.mark.shared
@pytest.mark.parametrize(("name", "stream"), [("i3d_rgb", "rgb"), ("i3d_flow", "flow"), ("i3d_rgb_odd", "rgb")])
def test_equal_to_the_original(name, stream, tmp_path):
    folder = SHARED / "reference" / "backbones"
    about = json.loads((folder / f"{name}.json").read_text())
    expected = np.load(folder / f"{name}.npz")
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in reference_weights(about["state"]).items()}
    if stream == "flow":
        torch.save(weights, tmp_path / "flow.pt")
        weights = tmp_path / "flow.pt"
    net = create_backbone("i3d", stream=stream, weights=weights)
    clips = torch.from_numpy(np.tanh(reference_normal(f"input:{about['input']}", tuple(about["shape"]))))
    with torch.inference_mode():
        maps = net.feature_map(clips)
        pooled = maps.mean(dim=(2, 3, 4))
        assert error(maps.numpy().reshape(expected["feature"].shape), expected["feature"]) < PARITY
        if "logits" in expected:
            assert error(net(clips).numpy(), expected["feature"][..., 0]) < PARITY
            assert error(net.logits(maps)[..., 0, 0].numpy(), expected["logits"]) < PARITY
        else:
            assert maps.shape == (1, 1024, 2, 2, 2)
            assert error(pooled.numpy(), expected["feature"].mean(axis=(2, 3, 4))) < PARITY


def test_forward_is_the_mean_of_the_map():
    net = create_backbone("i3d", stream="rgb", weights="random:0")
    clips = clip(length=17, side=64)
    with torch.inference_mode():
        maps = net.feature_map(clips)
        assert maps.shape == (1, 1024, 2, 1, 1)
        assert torch.equal(net(clips), maps.mean(dim=(2, 3, 4)))
        assert torch.allclose(net.classify(clips), net.logits(maps).mean(dim=(2, 3, 4)))
    assert not net.training


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (225, 7, 2, (3, 3)),
        (16, 3, 1, (1, 1)),
        (21, 2, 2, (0, 1)),
        (14, 2, 2, (0, 0)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_same_padding(size, kernel, stride, expected):
    assert i3d.same_padding(size, kernel, stride) == expected


OTHER_NAMES = [
    (r"\.b0\.", ".branch_0."),
    (r"\.b(\d)a\.", r".branch_\1.0."),
    (r"\.b([12])b\.", r".branch_\1.1."),
    (r"\.b3b\.", ".branch_3.1."),
    (r"\.bn\.", ".batch3d."),
    (r"^Mixed", "mixed"),
    (r"^Conv3d", "conv3d"),
    (r"^logits", "conv3d_0c_1x1"),
]


def other_layout(state):
    """State of the same numbers under the names of kinetics_i3d_pytorch."""
    renamed = {}
    for key, value in state.items():
        for ours, theirs in OTHER_NAMES:
            key = re.sub(ours, theirs, key)
        renamed[key] = value
    return renamed


def test_a_checkpoint_in_the_other_layout(published, tmp_path):
    theirs = other_layout(published)
    assert {"mixed_3b.branch_1.1.batch3d.weight", "mixed_5c.branch_3.1.conv3d.weight"} <= theirs.keys()
    torch.save(theirs, tmp_path / "model_rgb.pth")
    net = create_backbone("i3d", stream="rgb", weights=tmp_path / "model_rgb.pth")
    ours = create_backbone("i3d", stream="rgb", weights=published)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in published.items())
    assert net.identity["batch_norm_eps"] == 1e-5
    assert "batch_norm_eps" not in ours.identity
    assert {layer.eps for layer in net.modules() if isinstance(layer, nn.BatchNorm3d)} == {1e-5}
    assert {layer.eps for layer in ours.modules() if isinstance(layer, nn.BatchNorm3d)} == {1e-3}
    with torch.inference_mode():
        for found, eps in ((net, 1e-5), (ours, 1e-3)):
            before = F.conv3d(
                i3d._pad_same(clip(), (7,) * 3, (2,) * 3), published["Conv3d_1a_7x7.conv3d.weight"], None, 2
            )
            mean, variance, scale, shift = (
                published[f"Conv3d_1a_7x7.bn.{key}"][:, None, None, None]
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            wanted = F.relu((before - mean) / (variance + eps).sqrt() * scale + shift)
            assert error(found.Conv3d_1a_7x7(clip()), wanted) < 1e-5


@pytest.mark.parametrize("key", ["conv3d_1a_7x7.conv3d.weight", "mixed_4f.branch_2.0.conv3d.weight"])
def test_a_key_that_is_missing_in_the_other_layout_is_named_alone(published, key):
    theirs = other_layout(published)
    del theirs[key]
    ours = {"c": "Conv3d_1a_7x7.conv3d.weight", "m": "Mixed_4f.b2a.conv3d.weight"}[key[0]]
    assert refusal(theirs).endswith(f"the keys do not fit: 1 missing ({ours})")
    assert "1 unknown (Mixed_9z.b0.x)" in refusal({**theirs, "mixed_9z.branch_0.x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("logits.conv3d.bias", "conv3d_0c_1x1.conv3d.bias"),
        ("Mixed_3b.b0.bn.bias", "mixed_3b.branch_0.batch3d.bias"),
        ("mixed_3b.b0.bn.bias", "mixed_3b.b0.bn.bias"),
    ],
)
def test_two_keys_for_one_weight_are_refused(published, extra, named):
    """Refuse two values for one key; neither overwrites the other."""
    theirs = {**other_layout(published), extra: torch.full((64,), 7.0)}
    assert f"1 unknown ({named})" in refusal(theirs)


def test_a_checkpoint_in_the_published_layout(published, tmp_path):
    path = tmp_path / "rgb_imagenet.pt"
    torch.save(published, path)
    net = create_backbone("i3d", stream="rgb", weights=path)
    wrapped = {"state_dict": {f"module.{key}": value for key, value in published.items()}}
    other = create_backbone("i3d", stream="rgb", weights=wrapped)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in published.items())
    with torch.inference_mode():
        assert torch.equal(net(clip()), other(clip()))
    assert net.identity == other.identity
    assert len(net.identity["weights"]["sha256"]) == 64


def test_a_published_name_takes_the_file_in_the_workspace(published, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    torch.save(published, tmp_path / "weights" / "rgb_imagenet.pt")
    for weights in ("rgb_imagenet", None):
        message = refusal(weights)
        assert "has git object name" in message
        assert "wanted 73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a" in message
    assert "are for stream rgb, wanted stream flow" in refusal("rgb_imagenet", "flow")


def test_another_number_of_classes_is_taken_from_the_checkpoint(published):
    fewer = {**published, "logits.conv3d.weight": torch.zeros(7, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(7)}
    net = create_backbone("i3d", stream="rgb", weights=fewer)
    with torch.inference_mode():
        assert net.classify(clip()).shape == (1, 7)


def test_wrong_weights_are_refused_in_one_line(published, tmp_path):
    assert refusal(published, "flow") == "expected the flow checkpoint of i3d, got the rgb one; pass weights for flow"
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pt")
    path = tmp_path / "truncated.pt"
    torch.save(published, path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "is truncated, damaged, or not a checkpoint" in refusal(path)
    renamed = {key.replace("Mixed_3b", "mixed_3b"): value for key, value in published.items()}
    message = refusal(renamed)
    assert "30 missing (Mixed_3b.b0.conv3d.weight, " in message
    assert "30 unknown (mixed_3b.b0.conv3d.weight, " in message
    assert "other shape (Conv3d_2b_1x1.conv3d.weight [64, 64, 3, 3, 3], wanted [64, 64, 1, 1, 1])" in refusal(
        {**published, "Conv3d_2b_1x1.conv3d.weight": torch.zeros(64, 64, 3, 3, 3)}
    )
    assert "missing" in refusal({"weight": torch.zeros(1)})


def test_unknown_streams_and_seeds_are_refused():
    with pytest.raises(UsageError, match="no stream 'depth'"):
        create_backbone("i3d", stream="depth", weights="random:0")
    with pytest.raises(UsageError, match="random:SEED"):
        create_backbone("i3d", stream="rgb", weights="random:x")


def test_random_weights_keep_the_scale_and_say_so():
    net, same, other = (create_backbone("i3d", stream="flow", weights=f"random:{seed}") for seed in (0, 0, 1))
    assert net.identity["weights"] == {"random": 0}
    with torch.inference_mode():
        features = net(clip("flow"))
        assert torch.equal(net.classify(clip("flow")), same.classify(clip("flow")))
        assert not torch.equal(features, other(clip("flow")))
    assert 0.01 < features.std() < 100
    assert len({json.dumps(found.identity, sort_keys=True) for found in (net, same, other)}) == 2


def test_rgb_is_cut_and_scaled():
    net = create_backbone("i3d", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 256, 341, 3), np.uint8)
    kept = frames.copy()
    clips = net.preprocess(frames)
    assert (clips.shape, clips.dtype) == ((2, 3, 3, 224, 224), torch.float32)
    expected = frames[:, :, 16:240, 58:282].transpose(0, 4, 1, 2, 3).astype(np.float64) / 255 * 2 - 1
    assert np.abs(clips.numpy() - expected).max() < 1e-6
    assert (frames == kept).all()
    extremes = net.preprocess(
        np.array([0, 255], np.uint8)[:, None, None, None, None] * np.ones((1, 1, 9, 9, 3), np.uint8)
    )
    assert extremes.amin(dim=(1, 2, 3, 4)).tolist() == [-1, 1]


def test_flow_is_clipped_and_scaled():
    net = create_backbone("i3d", stream="flow", weights="random:0")
    flow = np.linspace(-60, 60, 2 * 300 * 256, dtype=np.float32).reshape(1, 1, 300, 256, 2)
    kept = flow.copy()
    clips = net.preprocess(flow)
    assert clips.shape == (1, 2, 1, 224, 224)
    assert torch.allclose(
        clips[0, :, 0], torch.from_numpy(flow[0, 0, 38:262, 16:240]).permute(2, 0, 1).clamp(-20, 20) / 20
    )
    assert (clips.min(), clips.max()) == (-1, 1)
    net.preprocess(flow.transpose(0, 4, 1, 2, 3).copy().transpose(0, 2, 3, 4, 1))
    assert (flow == kept).all()


def test_extract_takes_frames_and_gives_features():
    net = create_backbone("i3d", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 64, 72, 3), np.uint8)
    features = net.extract(frames)
    assert (features.shape, features.dtype) == ((2, 1024), np.float32)
    assert error(net.extract(frames[:1]), features[:1]) < 1e-5
    assert (net.dim, net.span, net.size.short_side, net.size.enlarge) == (1024, 16, 256, True)
    assert (i3d.STREAMS, i3d.FLOW, i3d.STRIDE) == (("rgb", "flow"), "tvl1", 16)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = create_backbone("i3d", stream="rgb", weights="random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 224, 224, 3), np.uint8)
    on_cpu = net.extract(frames)
    assert error(net.to(cuda).extract(frames), on_cpu) < 1e-3


def test_weights_are_documented():
    assert {weights.stream for weights in i3d.WEIGHTS.values()} == set(i3d.STREAMS)
    for name, weights in i3d.WEIGHTS.items():
        assert weights.filename == f"{name}.pt"
        assert weights.url.startswith("https://")
        assert weights.licence == "Apache-2.0"
        assert len(weights.git_blob) == 40
        assert 0 < min(weights.accuracy.values()) < 100
