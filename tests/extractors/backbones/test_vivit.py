"""ViViT with factorized encoder: its publishers' numbers, their checkpoint layout, preprocessing."""

import functools
import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.reference import SHARED, needs_shared, reference_normal, reference_weights
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import vivit

PARITY = 1e-4
"""Largest error allowed, relative to the largest value."""


@pytest.fixture
def shallow(monkeypatch):
    """Make every ViViT of this test two layers deep in space and one in time."""
    monkeypatch.setattr(vivit, "ViViT", functools.partial(vivit.ViViT, depth=2, temporal_depth=1))


@pytest.fixture(scope="module")
def published():
    """Shallow state in the published layout with numbers of this test."""
    return layout(vivit.ViViT({"linear": 5}, depth=2, temporal_depth=1))


def layout(net, seed=5):
    """The state of `net` filled from `seed`, under the keys of TAdaConv."""
    vivit.randomise(net, seed)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in net.state_dict().items():
        if value.ndim < 2 or "embd" in key or "cls_token" in key:
            value = value + 0.1 * torch.randn(value.shape, generator=generator)
        state[key if key.startswith("head.") else f"backbone.{key}"] = value
    return state


def clip(length=8, height=32, width=48, count=1):
    return torch.from_numpy(np.tanh(reference_normal("clip", (count, 3, length, height, width))))


def made(weights, variant=""):
    return create_backbone(f"vivit{variant}", stream="rgb", weights=weights)


def refusal(weights):
    with pytest.raises(WeightsError) as caught:
        made(weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max()


@needs_shared
@pytest.mark.shared
@pytest.mark.slow
def test_equal_to_the_original():
    folder = SHARED / "reference" / "backbones"
    about = json.loads((folder / "vivit_fe_b16x2.json").read_text())
    expected = np.load(folder / "vivit_fe_b16x2.npz")["feature"]
    net = made({key: torch.from_numpy(value) for key, value in reference_weights(about["state"]).items()})
    assert sum(parameter.numel() for parameter in net.parameters()) == about["params"]
    clips = torch.from_numpy(np.tanh(reference_normal(f"input:{about['input']}", tuple(about["shape"]))))
    with torch.inference_mode():
        maps = net.feature_map(clips)
    assert maps.shape == (1, 768, 1)
    assert error(maps[..., 0], expected) < PARITY
    with pytest.raises(WeightsError, match=r"have no classifier \(head.linear\)"):
        net.classify(clips[:, :, :2, :16, :16])


def torch_layers(layers):
    """PyTorch's own pre-norm transformer with the weights of ours."""
    theirs = []
    for ours in layers:
        layer = nn.TransformerEncoderLayer(
            768, 12, 3072, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        pairs = [
            (layer.norm1, ours.norm),
            (layer.norm2, ours.norm_ffn),
            (layer.linear1, ours.ffn.net[0]),
            (layer.linear2, ours.ffn.net[3]),
            (layer.self_attn.out_proj, ours.attn.proj),
        ]
        for module, found in pairs:
            module.load_state_dict(found.state_dict())
        layer.self_attn.in_proj_weight.data = ours.attn.to_qkv.weight.data
        layer.self_attn.in_proj_bias.data = ours.attn.to_qkv.bias.data
        theirs.append(layer)
    return nn.Sequential(*theirs).eval()


def test_equal_to_transformers_of_pytorch_at_the_trained_grid(shallow):
    net = vivit.ViViT({"linear": 5}, side=2, moments=3)
    net = made(layout(net))
    assert (net.side, net.moments, net.crop, net.span, net.size.short_side) == (2, 3, 32, 12, 256)
    clips = clip(6, 32, 32, count=2)
    with torch.no_grad():
        weight = net.stem.conv1.weight.flatten(1)
        rows = []
        for video in clips:
            moments = []
            for first in (0, 2, 4):
                tubelets = [video[:, first : first + 2, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
                patches = torch.stack([weight @ tubelet.flatten() + net.stem.conv1.bias for tubelet in tubelets])
                tokens = torch.cat((net.cls_token[0], patches)) + net.pos_embd[0]
                moments.append(net.norm(torch_layers(net.layers)(tokens[None]))[0, 0])
            tokens = torch.cat((net.cls_token_out[0], torch.stack(moments))) + net.temp_embd[0]
            rows.append(net.norm_out(torch_layers(net.layers_temporal)(tokens[None]))[0, 0])
        expected = torch.stack(rows)
        assert error(net(clips), expected) < 1e-5
        assert torch.equal(net.feature_map(clips)[..., 0], net(clips))
        scores = expected @ net.head["linear"].weight.T + net.head["linear"].bias
        assert error(net.classify(clips), scores) < 1e-5


def test_embeddings_of_another_grid_are_interpolated():
    token, cells = torch.full((1, 1, 2), 9.0), torch.tensor([0.0, 4.0, 8.0, 12.0])
    time = torch.cat((token, torch.stack((cells, -cells), dim=1)[None]), dim=1)
    assert vivit.stretch(time, (4,), (4,)) is time
    assert vivit.stretch(time, (4,), (2,))[0].tolist() == [[9, 9], [2, -2], [10, -10]]
    assert vivit.stretch(time, (4,), (8,))[0, :, 0].tolist() == [9, 0, 1, 3, 5, 7, 9, 11, 12]
    assert vivit.stretch(time, (2, 2), (1, 2))[0, :, 0].tolist() == [9, 4, 8]
    assert vivit.stretch(time, (2, 2), (2, 1))[0, :, 0].tolist() == [9, 2, 10]
    assert vivit.stretch(time, (2, 2), (1, 4))[0, :, 0].tolist() == [9, 4, 5, 7, 8]


def test_checkpoints_in_the_published_layout(shallow, published, tmp_path):
    path = tmp_path / "vivit.pyth"
    torch.save({"epoch": 30, "model_state": published, "optimizer_state": {"state": {}}, "cfg": "TRAIN:\n"}, path)
    net, bare = made(path), made({key.removeprefix("backbone."): value for key, value in published.items()})
    wrapped = made({"model_state": {f"module.{key}": value for key, value in published.items()}}, ":b16x2")
    assert all(torch.equal(net.state_dict()[key.removeprefix("backbone.")], published[key]) for key in published)
    with torch.inference_mode():
        assert torch.equal(net(clip()), bare(clip()))
        assert torch.equal(net(clip()), wrapped(clip()))
        assert net.classify(clip()).shape == (1, 5)
    assert net.identity == bare.identity == wrapped.identity
    assert len(net.identity["weights"]["sha256"]) == 64
    assert not net.training


def test_a_checkpoint_with_verbs_and_nouns_of_another_size_and_length(shallow):
    state = layout(vivit.ViViT({"linear1": 97, "linear2": 300}, side=20, moments=2))
    net = made(state)
    assert (net.crop, net.span, net.size.short_side) == (320, 8, 320)
    assert (net.about.frames, net.about.step) == (4, 2)
    assert net.identity["preprocessing"] == net.about.to_json()
    with torch.inference_mode():
        scores, feature = net.classify(clip()), net(clip())
        for name, part in (("linear1", scores[:, :97]), ("linear2", scores[:, 97:])):
            expected = feature @ state[f"head.{name}.weight"].T + state[f"head.{name}.bias"]
            assert error(part, expected) < 1e-5


def test_keys_that_do_not_fit_are_named(shallow, published, tmp_path):
    for key in ("backbone.layers.1.attn.proj.bias", "backbone.pos_embd", "backbone.temp_embd", "head.linear.bias"):
        short = key.removeprefix("backbone.")
        without = {name: value for name, value in published.items() if name != key}
        assert refusal(without) == f"vivit weights: the keys do not fit: 1 missing ({short})"
        longer = torch.zeros(*published[key].shape[:-1], published[key].shape[-1] + 1)
        assert f"1 other shape ({'head.linear.weight' if 'head' in key else short} [" in refusal(
            {**published, key: longer}
        )
    assert "1 other shape (pos_embd [1, 7, 768], wanted [1, 197, 768])" in refusal(
        {**published, "backbone.pos_embd": torch.zeros(1, 7, 768)}
    )
    assert "1 other shape (temp_embd [1, 1, 768], wanted [1, 17, 768])" in refusal(
        {**published, "backbone.temp_embd": torch.zeros(1, 1, 768)}
    )
    assert "1 unknown (head.pre_logits.fc.weight)" in refusal(
        {**published, "head.pre_logits.fc.weight": torch.zeros(1)}
    )
    assert "1 unknown (layers.2.norm.bias)" in refusal({**published, "backbone.layers.2.norm.bias": torch.zeros(768)})
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pyth")
    path = tmp_path / "truncated.pyth"
    torch.save({"model_state": published}, path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "is truncated, damaged, or not a checkpoint" in refusal(path)


def test_a_published_name_takes_the_file_in_the_workspace(shallow, published, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    path = tmp_path / "weights" / vivit.WEIGHTS["vivit_k400"].filename
    for weights in ("vivit_k400", None):
        message = refusal(weights)
        assert "must be downloaded by hand: get it from https://drive.google.com/" in message
        assert message.endswith(f"put it at {path}")
    path.parent.mkdir()
    torch.save({"model_state": published}, path)
    assert made("vivit_k400").identity == made(None).identity == made(published).identity


@pytest.mark.slow
def test_random_weights_differ_from_clip_to_clip_and_say_so():
    net, same, other = (made(f"random:{seed}") for seed in (0, 0, 1))
    assert (len(net.layers), len(net.layers_temporal)) == (12, 4)
    assert net.identity["weights"] == {"random": 0}
    with torch.inference_mode():
        features = net(torch.cat((clip(2), -clip(2))))
        assert torch.equal(net.classify(clip(2)), same.classify(clip(2)))
        assert net.classify(clip(2)).shape == (1, 400)
        assert (features[:1] - other(clip(2))).abs().max() > 0.1
    assert (features[0] - features[1]).abs().max() > 0.1
    assert 0.01 < features.std() < 100
    assert len({json.dumps(found.identity, sort_keys=True) for found in (net, same, other)}) == 2


def test_streams_and_variants_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("vivit", stream="flow", weights="random:0")
    with pytest.raises(UsageError, match=r"no variant 'l16x2'.*b16x2"):
        made("random:0", ":l16x2")


def test_frames_are_picked_cut_and_scaled(shallow):
    net = made("random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 256, 341, 3), np.uint8)
    kept = frames.copy()
    clips = net.preprocess(frames)
    assert (clips.shape, clips.dtype, clips.is_contiguous()) == ((2, 3, 32, 224, 224), torch.float32, True)
    expected = (frames[:, ::2, 16:240, 58:282].transpose(0, 4, 1, 2, 3).astype(np.float32) / 255 - 0.45) / 0.225
    assert np.abs(clips.numpy() - expected).max() < 1e-6
    assert (frames == kept).all()


def test_small_and_odd_pictures(shallow):
    net = made("random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 50, 67, 3), np.uint8)
    clips = net.preprocess(frames)
    assert clips.shape == (2, 3, 3, 48, 64)
    assert np.abs(clips.numpy() * 0.225 + 0.45 - frames[:, ::2, 1:49, 2:66].transpose(0, 4, 1, 2, 3) / 255).max() < 1e-6
    tiny = net.preprocess(frames[:, :1, :9, :16])
    assert tiny.shape == (2, 3, 1, 16, 16)
    assert torch.equal(tiny[..., :4, :], tiny[..., 3:4, :].expand(-1, -1, -1, 4, -1))
    assert torch.equal(tiny[..., 11:, :], tiny[..., 11:12, :].expand(-1, -1, -1, 5, -1))
    for pictures in (frames, frames[:, :1, :9, :16], frames[:1, :2, :, :16]):
        features = net.extract(pictures)
        assert (features.shape, features.dtype) == ((len(pictures), 768), np.float32)
        assert np.isfinite(features).all()
    features = net.extract(frames)
    assert error(net.extract(frames[1:]), features[1:]) < 1e-5
    held = np.concatenate((frames, frames[:, 4:], frames[:, 4:]), axis=1)
    assert np.array_equal(net.extract(held), features)


def test_its_facts_are_documented():
    assert (vivit.STREAMS, vivit.FLOW, vivit.STRIDE, vivit.VARIANTS) == (("rgb",), "", 16, ("b16x2",))
    net = vivit.ViViT
    assert (net.stream, net.dim, net.span, net.crop, net.size.short_side, net.size.enlarge) == (
        "rgb",
        768,
        64,
        224,
        256,
        True,
    )
    for weights in vivit.WEIGHTS.values():
        assert weights.variant in vivit.VARIANTS
        assert weights.filename.endswith(".pyth")
        assert weights.by_hand
        assert 0 < min(weights.accuracy.values()) < 100


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch, shallow):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = made("random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 64, 64, 3), np.uint8)
    on_cpu = net.extract(frames)
    assert error(net.to(cuda).extract(frames), on_cpu) < 1e-3
