"""Video networks of torchvision: its numbers up to the feature, its files, its preprocessing."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from tests.support.networks import small_mvit
from tests.support.reference import reference_normal
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import torchvision as leaf
from wtal.extractors.torchvision_guard import ready
from wtal.extractors.weights import randomise

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)
ready()

import torchvision.models.video as theirs  # noqa: E402

PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
SMALL = {"r2plus1d_18": (4, 32), "r3d_18": (4, 32), "mc3_18": (4, 32), "swin3d_t": (4, 64)}
"""Smallest frames and pixels for each network."""
ENUMS = {
    "r2plus1d_18_k400": theirs.R2Plus1D_18_Weights.KINETICS400_V1,
    "mvit_v2_s_k400": theirs.MViT_V2_S_Weights.KINETICS400_V1,
    "swin3d_t_k400": theirs.Swin3D_T_Weights.KINETICS400_V1,
    "swin3d_s_k400": theirs.Swin3D_S_Weights.KINETICS400_V1,
    "swin3d_b_k400": theirs.Swin3D_B_Weights.KINETICS400_V1,
    "swin3d_b_22k_k400": theirs.Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1,
    "s3d_k400": theirs.S3D_Weights.KINETICS400_V1,
    "r3d_18_k400": theirs.R3D_18_Weights.KINETICS400_V1,
    "mc3_18_k400": theirs.MC3_18_Weights.KINETICS400_V1,
}


@pytest.fixture(scope="module")
def published():
    """State in torchvision's layout, for 7 classes, with numbers of this test."""
    torch.manual_seed(3)
    network = theirs.r2plus1d_18(num_classes=7).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    return network, network.state_dict()


def clip(frames, side, batch=1):
    return torch.from_numpy(np.tanh(reference_normal("clip", (batch, 3, frames, side, side))))


def pictures(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def ours(variant, network):
    return leaf.TorchvisionVideo(variant, network).eval()


def headless(network, last):
    """Network of the library that stops before its last layer."""
    setattr(network, last, torch.nn.Identity())
    return network


def error(found, wanted):
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def compare(variant, network, clips):
    """Compare feature and scores with the library's, for weights that keep the scale; return the map."""
    randomise(network, 7)
    net = ours(variant, network.eval())
    with torch.inference_mode():
        maps = net.feature_map(clips)
        features = net(clips)
        assert features.shape == (len(clips), net.dim)
        assert 0.01 < features.std() < 100
        assert error(net.classify(clips), network(clips)) < PARITY
        assert error(features, headless(network, net.form.last)(clips).flatten(1)) < PARITY
        assert error(features, maps.flatten(2).mean(dim=2)) < PARITY
    return maps


def refusal(weights, variant="r2plus1d_18"):
    with pytest.raises(WeightsError) as caught:
        create_backbone(f"torchvision:{variant}", stream="rgb", weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("variant", SMALL)
def test_equal_to_the_library_up_to_the_last_layer(variant):
    torch.manual_seed(0)
    frames, side = SMALL[variant]
    maps = compare(variant, getattr(theirs, variant)(num_classes=5), clip(frames, side, batch=2))
    assert maps.shape[1] == leaf._FORMS[variant].dim
    assert maps.ndim == 5


@pytest.mark.slow
def test_s3d_is_equal_to_the_library():
    torch.manual_seed(0)
    network = theirs.s3d(num_classes=5)
    assert compare("s3d", network, clip(16, 224)).shape == (1, 1024, 1, 1, 1)
    net = ours("s3d", network)
    with torch.inference_mode():
        last = net.network.features(clip(8, 64))
        assert last.shape == (1, 1024, 1, 2, 2)
        assert error(net(clip(8, 64)), last.mean(dim=(2, 3, 4))) < PARITY


@pytest.mark.slow
def test_mvit_is_equal_to_the_library():
    """Build the first two stages at a quarter of the size; the class token is separate from the patches."""
    torch.manual_seed(0)
    network = small_mvit(num_classes=5)
    assert compare("mvit_v2_s", network, clip(8, 64, batch=2)).shape == (2, 768, 1)


def test_published_checkpoints_load_by_path_and_by_mapping(published, tmp_path):
    network, state = published
    path = tmp_path / "r2plus1d_18-00000000.pth"
    torch.save(state, path)
    net = create_backbone("torchvision", stream="rgb", weights=path)
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    other = create_backbone("torchvision:r2plus1d_18", stream="rgb", weights=wrapped)
    clips = clip(4, 32)
    with torch.inference_mode():
        assert error(net.classify(clips), network(clips)) < PARITY
        assert torch.equal(net(clips), other(clips))
    assert not net.training
    assert net.identity == other.identity
    assert len(net.identity["weights"]["sha256"]) == 64


@pytest.mark.parametrize("variant", ["mvit_v2_s", "s3d", "swin3d_t"])
def test_every_layout_loads_key_by_key(variant):
    state = getattr(theirs, variant)(num_classes=3).state_dict()
    net = create_backbone(f"torchvision:{variant}", stream="rgb", weights=state)
    loaded = net.network.state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_wrong_weights_are_refused_by_name(published, tmp_path):
    state = dict(published[1])
    missing = {key: value for key, value in state.items() if key != "layer3.0.conv2.0.0.weight"}
    assert "1 missing (layer3.0.conv2.0.0.weight)" in refusal(missing)
    assert "1 unknown (extra.weight)" in refusal({**state, "extra.weight": torch.zeros(1)})
    shaped = refusal({**state, "stem.0.weight": torch.zeros(45, 2, 1, 7, 7)})
    assert "stem.0.weight [45, 2, 1, 7, 7], wanted [45, 3, 1, 7, 7]" in shaped
    assert "torchvision r3d_18 weights: the keys do not fit" in refusal(state, "r3d_18")
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pth")
    assert "1 missing (fc.bias)" in refusal({key: value for key, value in state.items() if key != "fc.bias"})


def test_a_published_name_is_checked_and_belongs_to_its_variant(published, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    torch.save(published[1], tmp_path / "weights" / "r2plus1d_18-91a641e6.pth")
    for weights in (None, "r2plus1d_18_k400"):
        assert "wanted 91a641e6" in refusal(weights)
    assert "weights s3d_k400 are for s3d, wanted r2plus1d_18" in refusal("s3d_k400")


def test_unknown_variants_and_streams_are_refused():
    with pytest.raises(UsageError, match="no variant 'swin3d_x'; did you mean 'swin3d_"):
        create_backbone("torchvision:swin3d_x", stream="rgb", weights="random:0")
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("torchvision", stream="flow", weights="random:0")


@pytest.mark.slow
def test_random_weights_depend_on_their_seed_alone():
    state = torch.random.get_rng_state()
    net = create_backbone("torchvision:mvit_v2_s", stream="rgb", weights="random:0")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    same, other = (create_backbone("torchvision:mvit_v2_s", stream="rgb", weights=f"random:{seed}") for seed in (0, 1))
    for key, value in net.network.state_dict().items():
        assert torch.equal(value, same.network.state_dict()[key]), key
    assert net.identity["weights"] == {"random": 0}
    assert not torch.equal(net.network.pos_encoding.class_token, other.network.pos_encoding.class_token)
    assert len({json.dumps(found.identity, sort_keys=True) for found in (net, same, other)}) == 2


@pytest.mark.parametrize("size", [(256, 341), (256, 455), (341, 256), (200, 300), (1, 1), (301, 97)])
@pytest.mark.parametrize("name", ["r2plus1d_18_k400", "s3d_k400", "mvit_v2_s_k400", "swin3d_t_k400"])
def test_preprocessing_is_torchvisions(name, size):
    net = ours(leaf.WEIGHTS[name].variant, torch.nn.Identity())
    frames = pictures(2, 2 * net.form.step, *size, 3)
    kept = frames.copy()
    clips = net.preprocess(frames)
    seen = frames[:, (net.form.step - 1) // 2 :: net.form.step]
    expected = ENUMS[name].transforms()(torch.from_numpy(np.ascontiguousarray(seen.transpose(0, 1, 4, 2, 3))))
    assert clips.shape == (2, 3, 2, net.form.crop, net.form.crop)
    assert clips.dtype == torch.float32
    assert torch.allclose(clips, expected, atol=1e-5)
    assert (frames == kept).all()


def test_values_by_hand():
    net = ours("swin3d_t", torch.nn.Identity())
    frames = pictures(1, 64, 256, 300, 3)
    frames.flags.writeable = False
    clips = net.preprocess(frames)
    assert clips.shape == (1, 3, 32, 224, 224)
    value = (frames[0, 6, 16 + 5, 38 + 7, 2] / 255 - 0.406) / 0.225
    assert abs(clips[0, 2, 3, 5, 7].item() - value) < 1e-5


@pytest.mark.parametrize("variant", ["r3d_18", "s3d", "mvit_v2_s"])
def test_ten_crops_are_of_the_picture_that_one_crop_is_of(variant):
    """Stretch before cropping if the network does: the fifth crop equals the centre alone."""
    net = ours(variant, torch.nn.Identity())
    frames, side = pictures(1, net.span, 256, 303, 3), net.form.crop
    views = list(net.preprocess_ten(frames))
    assert [view.shape for view in views] == [(1, 3, net.form.frames, side, side)] * 10
    assert torch.equal(views[4], net.preprocess(frames))
    assert torch.equal(views[9], net.preprocess(frames).flip(4))
    marked = np.zeros((1, net.span, 256, 400, 3), np.uint8)
    marked[:, :, :, :40] = 255
    left = next(net.preprocess_ten(marked))[0, 0, 0, 0]
    target = leaf._target((256, 400), net.form.resize)
    assert (left > left.mean()).sum() == pytest.approx(target[1] / 10, abs=1)


def test_frames_to_features():
    net = create_backbone("torchvision:mc3_18", stream="rgb", weights="random:0")
    frames = pictures(2, 8, 96, 50, 3)
    features = net.extract(frames)
    assert (features.shape, features.dtype) == ((2, 512), np.float32)
    assert np.isfinite(features).all()
    assert np.allclose(net.extract(frames[:1]), features[:1], rtol=1e-4, atol=1e-5)
    assert net.extract(pictures(1, 2, 256, 300, 3), crops=10).shape == (1, 512)


def test_every_variant_says_what_it_sees():
    windows = {"mvit_v2_s": (64, 224, 768), "s3d": (64, 224, 1024), "swin3d_b": (64, 224, 1024)}
    for variant in leaf.VARIANTS:
        net = ours(variant, torch.nn.Identity())
        wanted = (64, 224, 768) if variant.startswith("swin") else (32, 224, 512)
        assert (net.span, net.crop, net.dim) == windows.get(variant, wanted)
        assert (net.stream, net.size.short_side, net.size.enlarge) == ("rgb", 256, True)
        assert net.identity["variant"] == variant
        json.dumps(net.identity)
    assert (leaf.STREAMS, leaf.FLOW, leaf.STRIDE) == (("rgb",), "", 16)
    assert set(leaf._FORMS) == set(leaf.VARIANTS)


def test_the_table_of_weights_is_torchvisions():
    assert list(leaf.WEIGHTS) == list(ENUMS)
    assert {weights.variant for weights in leaf.WEIGHTS.values()} == set(leaf.VARIANTS)
    for name, weights in leaf.WEIGHTS.items():
        enum, form = ENUMS[name], leaf._FORMS[weights.variant]
        assert enum is theirs.__dict__[type(enum).__name__].KINETICS400_V1 or name == "swin3d_b_22k_k400"
        assert weights.url == enum.url
        assert weights.filename.endswith(f"-{weights.sha256}.pth")
        assert len(weights.sha256) == 8
        measured = enum.meta["_metrics"]["Kinetics-400"]
        assert list(weights.accuracy.values()) == [measured["acc@1"], measured["acc@5"]]
        published = enum.transforms()
        resize = [form.resize] if isinstance(form.resize, int) else list(form.resize)
        assert (published.resize_size, published.crop_size) == (resize, [form.crop] * 2)
        assert (tuple(published.mean), tuple(published.std)) == form.values


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = create_backbone("torchvision:swin3d_t", stream="rgb", weights="random:0")
    frames = pictures(1, 64, 256, 300, 3)
    on_cpu = net.extract(frames)
    on_gpu = net.to(cuda).extract(frames)
    assert np.abs(on_gpu - on_cpu).max() / np.abs(on_cpu).max() < 1e-3
