"""CSN: the libraries' numbers, the published layouts, preprocessing."""

import dataclasses
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.reference import reference_weights
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import csn
from wtal.extractors.torchvision_guard import ready

pytest.importorskip("pytorchvideo")
PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
CLASSES = 11


def fill(net):
    """Network whose numbers depend only on the names of its keys."""
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    net.load_state_dict({key: torch.from_numpy(np.asarray(v)) for key, v in reference_weights(shapes).items()})
    return net.eval()


def pytorchvideo_net(pool=(1, 2, 2)):
    """CSN-101 of pytorchvideo, with another pool; its keys are those of CSN_32x2_R101.pyth."""
    ready()
    from pytorchvideo.models.hub import csn_r101

    net = csn_r101(model_num_class=CLASSES)
    assert net.blocks[-1].pool.kernel_size == csn._R101_POOL
    net.blocks[-1].pool = nn.AvgPool3d(pool, 1)
    return fill(net)


def vmz_net(mode, layers=(3, 8, 36, 3)):
    """CSN from torchvision's video ResNet, as in VMZ; its keys are those of VMZ's checkpoints."""
    ready()
    from torchvision.models.video.resnet import Bottleneck, VideoResNet

    class Depthwise(nn.Conv3d):
        def __init__(self, channels, out, middle, stride=1):
            super().__init__(channels, out, 3, stride, 1, groups=channels, bias=False)

        @staticmethod
        def get_downsample_stride(stride):
            return (stride,) * 3

    class Preserving(nn.Sequential):
        def __init__(self, channels, out, middle, stride=1):
            super().__init__(
                nn.Conv3d(channels, out, 1, bias=False), nn.BatchNorm3d(out), Depthwise(out, out, middle, stride)
            )

        get_downsample_stride = Depthwise.get_downsample_stride

    class Stem(nn.Sequential):
        def __init__(self):
            super().__init__(
                nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
                nn.BatchNorm3d(64),
                nn.ReLU(),
                nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            )

    maker = {"ir": Depthwise, "ip": Preserving}[mode]
    net = VideoResNet(Bottleneck, [maker] * 4, list(layers), Stem, num_classes=CLASSES)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return fill(net)


def as_mmaction2(state, mode):
    """VMZ's keys -> those of a mmaction2 checkpoint."""
    steps = [
        (r"^stem\.0\.", "backbone.conv1.conv."),
        (r"^stem\.1\.", "backbone.conv1.bn."),
        (r"^fc\.", "cls_head.fc_cls."),
        (r"^layer", "backbone.layer"),
        (r"\.(conv1|conv3|downsample)\.0\.", r".\1.conv."),
        (r"\.(conv1|conv3|downsample)\.1\.", r".\1.bn."),
    ]
    if mode == "ip":
        steps += [
            (r"\.conv2\.1\.", ".conv2.1.bn."),
            (r"\.conv2\.0\.0\.", ".conv2.0.conv."),
            (r"\.conv2\.0\.1\.", ".conv2.0.bn."),
            (r"\.conv2\.0\.2\.", ".conv2.1.conv."),
        ]
    else:
        steps += [(r"\.conv2\.1\.", ".conv2.0.bn."), (r"\.conv2\.0\.(?!bn)", ".conv2.0.conv.")]
    renamed = {}
    for key, value in state.items():
        for old, new in steps:
            key = re.sub(old, new, key)
        renamed[key] = value
    assert len(renamed) == len(state)
    return renamed


def clip(length=8, height=64, width=64, seed=0):
    return torch.randn(2, 3, length, height, width, generator=torch.Generator().manual_seed(seed))


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def before(net, layer, clips):
    """Input of `layer` in `net`, and output of `net`."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    given = net(clips)
    hook.remove()
    return seen[0], given


@pytest.fixture(scope="module", params=[pytest.param(variant, marks=pytest.mark.slow) for variant in ("ir", "ip")])
def published(request):
    """Build (variant, VMZ's network, its state in mmaction2's layout)."""
    net = vmz_net(request.param)
    return f"{request.param}152", net, as_mmaction2(net.state_dict(), request.param)


@pytest.fixture(scope="module")
def r101():
    return pytorchvideo_net()


def refusal(weights, variant):
    with pytest.raises(WeightsError) as caught:
        create_backbone(f"csn:{variant}", "rgb", weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_r101_is_equal_to_the_library(r101, tmp_path):
    path = tmp_path / "CSN_32x2_R101.pyth"
    torch.save({"model_state": r101.state_dict(), "epoch": 300, "cfg": "text"}, path)
    net = create_backbone("csn", "rgb", path)
    other = create_backbone("csn:r101", "rgb", r101.state_dict())
    with torch.inference_mode():
        feature, logits = before(r101, r101.blocks[-1].proj, clip())
        ours = net(clip())
        assert ours.shape == (2, 2048)
        assert error(ours, feature.mean(dim=(1, 2, 3))) < PARITY
        assert error(net.classify(clip()), logits) < PARITY
        assert torch.equal(ours, other(clip()))
        assert ours.std(dim=0).max() > 0
    assert net.identity == other.identity
    assert net.identity["preprocessing"]["mean"] == [0.45] * 3
    assert len(net.identity["weights"]["sha256"]) == 64
    assert not net.training


def test_r101_has_the_pool_of_the_library(r101, monkeypatch):
    net = create_backbone("csn", "rgb", r101.state_dict())
    monkeypatch.setattr(csn, "_R101_POOL", (1, 2, 2))
    clips = clip(16, 66, 97)
    with torch.inference_mode():
        assert net.feature_map(clips).shape == (2, 2048, 2, 2, 3)
        assert error(net.classify(clips), r101(clips)) < PARITY


def test_152_is_equal_to_the_networks_of_vmz(published, tmp_path):
    variant, library, state = published
    path = tmp_path / "152.pth"
    torch.save(library.state_dict(), path)
    from_vmz = create_backbone(f"csn:{variant}", "rgb", path)
    torch.save({"meta": {"epoch": 58}, "state_dict": state}, path)
    from_mmaction2 = create_backbone(f"csn:{variant}", "rgb", path)
    clips = clip(16, 66, 97)
    with torch.inference_mode():
        feature, logits = before(library, library.fc, clips)
        ours = from_vmz(clips)
        assert from_vmz.feature_map(clips).shape == (2, 2048, 2, 3, 4)
        assert ours.shape == (2, 2048)
        assert error(ours, feature) < PARITY
        assert error(from_vmz.classify(clips), logits) < PARITY
        assert torch.equal(from_mmaction2(clips), ours)
        assert torch.equal(create_backbone(f"csn:{variant}", "rgb", state)(clips), ours)
        assert ours.std(dim=0).max() > 0
    for given, loaded in ((library.state_dict(), from_vmz), (state, from_mmaction2)):
        assert create_backbone(f"csn:{variant}", "rgb", given).identity == loaded.identity
    assert from_vmz.identity["weights"] != from_mmaction2.identity["weights"]
    assert from_vmz.identity["preprocessing"]["mean"] == [0.43216, 0.394666, 0.37645]
    assert from_mmaction2.identity["preprocessing"]["std"] == [0.229, 0.224, 0.225]


def test_pixels_are_those_of_the_published_file_whatever_it_is_called(published, tmp_path, monkeypatch):
    variant, _, state = published
    mode = variant[:2]
    path = tmp_path / "vmz_no_published_name.pth"
    torch.save(state, path)
    with pytest.warns(UserWarning, match="pass imagenet:PATH or vmz:PATH to choose"):
        assert create_backbone(f"csn:{variant}", "rgb", path).pixels == csn.IMAGENET
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for name, pixels in ((f"{mode}csn_k400", csn.VMZ), (f"{mode}csn_ig65m", csn.IMAGENET)):
        entry = csn.WEIGHTS[name]
        assert entry.pixels == pixels
        shutil.copy(path, tmp_path / "weights" / entry.filename)
        with monkeypatch.context() as known:
            known.setitem(csn.WEIGHTS, name, dataclasses.replace(entry, sha256=digest[:8]))
            for weights in (name, path, str(path)):
                assert create_backbone(f"csn:{variant}", "rgb", weights).pixels == pixels


@pytest.mark.parametrize(("choice", "pixels"), [("vmz", csn.VMZ), ("imagenet", csn.IMAGENET)])
def test_pixels_are_chosen_by_name(published, tmp_path, recwarn, choice, pixels):
    variant, _, state = published
    path = tmp_path / "a.pth"
    torch.save(state, path)
    net = create_backbone(f"csn:{variant}", "rgb", f"{choice}:{path}")
    assert net.pixels == pixels
    assert net.identity["preprocessing"]["mean"] == list(pixels.mean)
    assert not [one for one in recwarn if "csn weights" in str(one.message)]
    assert "does not exist; pass a checkpoint" in refusal(f"{choice}:{tmp_path / 'absent.pth'}", variant)


def test_wrong_weights_are_refused_by_name(published):
    variant, library, state = published
    stem = "layer2.7.conv3.0.weight"
    vmz = library.state_dict()
    start = f"csn {variant} weights in the layout of"
    without = {key: value for key, value in vmz.items() if key != stem}
    assert f"{start} vmz: the keys do not fit: 1 missing ({stem})" in refusal(without, variant)
    assert "1 unknown (layer2.7.conv4.weight)" in refusal({**vmz, "layer2.7.conv4.weight": torch.zeros(1)}, variant)
    assert f"1 other shape ({stem} [3], wanted [512, 128, 1, 1, 1])" in refusal({**vmz, stem: torch.zeros(3)}, variant)
    key = "backbone.layer1.0.conv2.0.bn.bias"
    without = {name: value for name, value in state.items() if name != key}
    assert f"{start} mmaction2: the keys do not fit: 1 missing (layer1.0.conv2.0.bn.bias)" in refusal(without, variant)
    assert "1 unknown (neck.bias)" in refusal({**state, "neck.bias": torch.zeros(1)}, variant)
    message = refusal({**state, "cls_head.fc_cls.weight": torch.zeros(CLASSES, 9)}, variant)
    assert f"cls_head.fc_cls.weight [{CLASSES}, 9], wanted [{CLASSES}, 2048]" in message
    other = "ip152" if variant == "ir152" else "ir152"
    for given in (vmz, state):
        assert f"csn {other} weights" in refusal(given, other)
        assert "csn r101 weights" in refusal(given, "r101")


def test_wrong_weights_of_r101_are_refused_by_name(r101, tmp_path):
    state, key = r101.state_dict(), "blocks.3.res_blocks.22.branch2.conv_b.weight"
    assert f"1 missing ({key})" in refusal({name: v for name, v in state.items() if name != key}, "r101")
    assert "1 unknown (stem.0.weight)" in refusal({**state, "stem.0.weight": torch.zeros(1)}, "r101")
    assert f"{key} [256, 256, 3, 3, 3], wanted [256, 1, 3, 3, 3]" in refusal(
        {**state, key: torch.zeros(256, 256, 3, 3, 3)}, "r101"
    )
    assert "missing" in refusal({"weight": torch.zeros(1)}, "r101")
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pyth", "r101")
    assert "are for ir152, wanted r101" in refusal("ircsn_ig65m", "r101")


def test_unknown_streams_and_variants_are_refused():
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("csn", "flow", "random:0")
    with pytest.raises(UsageError, match="no variant 'r50'"):
        create_backbone("csn:r50", "rgb", "random:0")


@pytest.mark.parametrize(
    "variant", ["r101", *(pytest.param(deep, marks=pytest.mark.slow) for deep in ("ir152", "ip152"))]
)
def test_random_weights_keep_the_scale_and_say_so(variant):
    net, same, other = (create_backbone(f"csn:{variant}", "rgb", f"random:{seed}") for seed in (0, 0, 1))
    assert net.identity["weights"] == {"random": 0}
    with torch.inference_mode():
        features = net(clip())
        assert torch.equal(features, same(clip()))
        assert not torch.equal(features, other(clip()))
        assert not torch.equal(features, net(clip(seed=1)))
    assert 0.01 < features.std() < 100
    assert len({json.dumps(found.identity, sort_keys=True) for found in (net, same, other)}) == 2
    epsilon = {module.eps for module in net.modules() if isinstance(module, nn.BatchNorm3d)}
    assert epsilon == {1e-5 if variant == "r101" else 1e-3}


@pytest.fixture(scope="module")
def nets():
    return {variant: create_backbone(f"csn:{variant}", "rgb", "random:0") for variant in ("r101", "ir152")}


@pytest.mark.parametrize(
    ("variant", "mean", "std"),
    [("r101", (0.45,) * 3, (0.225,) * 3), ("ir152", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))],
)
def test_frames_are_taken_cut_and_scaled(nets, variant, mean, std):
    net = nets[variant]
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 256, 341, 3), np.uint8)
    kept = frames.copy()
    clips = net.preprocess(frames)
    assert (clips.shape, clips.dtype) == ((2, 3, 32, 224, 224), torch.float32)
    expected = (frames[:, ::2, 16:240, 58:282].astype(np.float32) / 255 - mean) / std
    assert np.abs(clips.numpy() - expected.transpose(0, 4, 1, 2, 3)).max() < 1e-5
    assert (frames == kept).all()
    assert net.preprocess(frames[:, :, :200, :301]).shape == (2, 3, 32, 200, 224)


def test_mmaction2_values_are_those_of_pixels_up_to_255():
    assert np.allclose(np.array(csn.IMAGENET.mean) * 255, [123.675, 116.28, 103.53])
    assert np.allclose(np.array(csn.IMAGENET.std) * 255, [58.395, 57.12, 57.375])


def test_extract_takes_frames_of_any_size(nets):
    rng = np.random.default_rng(0)
    for net in nets.values():
        for height, width in ((1, 1), (37, 60), (60, 37)):
            frames = rng.integers(0, 256, (2, 64, height, width, 3), np.uint8)
            features = net.extract(frames)
            assert (features.shape, features.dtype) == ((2, 2048), np.float32)
            assert np.isfinite(features).all()
            assert np.abs(net.extract(frames[:1]) - features[:1]).max() < 1e-4 * np.abs(features).max()
        assert (net.dim, net.span, net.crop, net.size.short_side, net.size.enlarge) == (2048, 64, 224, 256, True)
        assert json.loads(json.dumps(net.identity)) == net.identity
    assert (csn.STREAMS, csn.FLOW, csn.STRIDE) == (("rgb",), "", 16)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch, nets):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = create_backbone("csn:ir152", "rgb", "random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 224, 224, 3), np.uint8)
    on_cpu = torch.from_numpy(net.extract(frames))
    assert error(torch.from_numpy(net.to(cuda).extract(frames)), on_cpu) < 1e-3


def test_weights_are_documented():
    assert {weights.variant for weights in csn.WEIGHTS.values()} == set(csn.VARIANTS)
    for weights in csn.WEIGHTS.values():
        assert weights.url.startswith("https://")
        assert weights.licence == "Apache-2.0"
        assert weights.sha256 is None or re.fullmatch("[0-9a-f]{8}", weights.sha256)
        assert 0 < min(weights.accuracy.values()) < 100
