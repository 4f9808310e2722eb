"""SlowFast: the library's numbers, its published layout, preprocessing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.support.reference import reference_weights
from wtal.errors import MissingExtraError, UsageError, WeightsError
from wtal.extractors import create_backbone, torchvision_guard
from wtal.extractors.backbones import slowfast
from wtal.extractors.torchvision_guard import ready

pytest.importorskip("pytorchvideo")
PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
LATERAL = {50: 7, 101: 5, 152: 5}


def library_net(depth, pools=((2, 2, 2), (8, 2, 2)), classes=11):
    """Network of pytorchvideo with numbers of this test."""
    ready()
    from pytorchvideo.models.slowfast import create_slowfast

    net = create_slowfast(
        model_depth=depth,
        model_num_class=classes,
        slowfast_fusion_conv_kernel_size=(LATERAL.get(depth, 5), 1, 1),
        head_pool_kernel_sizes=pools,
    )
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    net.load_state_dict({key: torch.from_numpy(np.asarray(v)) for key, v in reference_weights(shapes).items()})
    return net.eval()


def pathways(clips):
    """Input of the library's network: Slow and Fast."""
    steps = torch.linspace(0, clips.shape[2] - 1, clips.shape[2] // 4).long()
    return [torch.index_select(clips, 2, steps), clips.clone()]


def clip(length=8, height=64, width=64, seed=0):
    return torch.randn(2, 3, length, height, width, generator=torch.Generator().manual_seed(seed))


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def library_feature(net, clips):
    """Input (N, 2304) of the library's classifier."""
    seen = []
    hook = net.blocks[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = net(pathways(clips))
    hook.remove()
    return seen[0].mean(dim=(2, 3, 4)), logits


@pytest.fixture
def small(monkeypatch):
    """Use one block per stage in place of 101 layers."""
    monkeypatch.setitem(slowfast._DEPTHS, "r101", 18)
    return library_net(18)


def refusal(weights, variant="r101"):
    with pytest.raises(WeightsError) as caught:
        create_backbone(f"slowfast:{variant}", "rgb", weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("variant", ["r50", *(pytest.param(deep, marks=pytest.mark.slow) for deep in ("r101", "r152"))])
def test_equal_to_the_library(variant):
    library = library_net(int(variant[1:]))
    net = create_backbone(f"slowfast:{variant}", "rgb", library.state_dict())
    clips = clip()
    with torch.inference_mode():
        feature, logits = library_feature(library, clips)
        ours = net(clips.clone())
        assert ours.shape == (2, 2304)
        assert error(ours, feature) < PARITY
        assert error(net.classify(clips), logits) < PARITY
        assert error(net.feature_map(clips).mean(dim=(2, 3, 4)), ours) < PARITY
        assert ours.std(dim=0).max() > 0
    assert not net.training


@pytest.mark.parametrize("variant", ["r101", "r50"])
def test_built_as_the_library_builds_its_published_networks(variant):
    ready()
    from pytorchvideo.models import hub

    library = getattr(hub, f"slowfast_{variant}")()
    net = slowfast.SlowFast(variant)
    shapes = [{key: value.shape for key, value in found.state_dict().items()} for found in (net, library)]
    assert shapes[0] == shapes[1]
    assert tuple(pool.kernel_size for pool in library.blocks[5].pool) == slowfast._POOLS


@pytest.mark.slow
def test_equal_to_the_library_at_the_published_size(small):
    library = library_net(18, ((8, 7, 7), (32, 7, 7)))
    net = create_backbone("slowfast", "rgb", library.state_dict())
    clips = clip(32, 256, 256)[:1]
    with torch.inference_mode():
        feature, logits = library_feature(library, clips)
        assert net.feature_map(clips).shape == (1, 2304, 1, 2, 2)
        assert error(net(clips), feature) < PARITY
        assert error(net.classify(clips), logits) < PARITY


def test_the_slow_pathway_sees_a_quarter_from_the_first_to_the_last():
    assert slowfast.slow_frames(32) == [0, 4, 8, 13, 17, 22, 26, 31]
    for length in range(95):
        assert slowfast.slow_frames(length) == torch.linspace(0, length - 1, length // 4).long().tolist()


def test_a_checkpoint_in_the_published_layout(small, tmp_path):
    path = tmp_path / "SLOWFAST_8x8_R101.pyth"
    torch.save({"model_state": small.state_dict(), "epoch": 196, "cfg": "text"}, path)
    net = create_backbone("slowfast", "rgb", path)
    other = create_backbone(
        "slowfast:r101", "rgb", {f"module.{key}": value for key, value in small.state_dict().items()}
    )
    with torch.inference_mode():
        assert torch.equal(net(clip()), other(clip()))
        assert error(net.classify(clip()), small(pathways(clip()))) < PARITY
    assert net.identity == other.identity
    assert len(net.identity["weights"]["sha256"]) == 64


def test_a_published_name_takes_the_file_in_the_workspace(small, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    torch.save({"model_state": small.state_dict()}, tmp_path / "weights" / "SLOWFAST_8x8_R101.pyth")
    by_name = create_backbone("slowfast:r101", "rgb", "slowfast_8x8_r101")
    assert by_name.identity == create_backbone("slowfast", "rgb").identity
    assert "are for r50, wanted r101" in refusal("slowfast_8x8_r50")
    assert "there are no published weights for stream rgb of r152" in refusal(None, "r152")


def test_wrong_weights_are_refused_by_name(small, tmp_path):
    state = small.state_dict()
    stem, projection = "blocks.0.multipathway_blocks.1.conv.weight", "blocks.6.proj.weight"
    assert f"slowfast r101 weights: the keys do not fit: 1 missing ({stem})" in refusal(
        {key: value for key, value in state.items() if key != stem}
    )
    assert "1 unknown (head.extra)" in refusal({**state, "head.extra": torch.zeros(1)})
    assert f"1 other shape ({projection} [11, 7], wanted [11, 2304])" in refusal(
        {**state, projection: torch.zeros(11, 7)}
    )
    assert "missing" in refusal({"weight": torch.zeros(1)})
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pyth")
    fusion = "blocks.0.multipathway_fusion.conv_fast_to_slow.weight"
    assert f"{fusion} [16, 8, 7, 1, 1], wanted [16, 8, 5, 1, 1]" in refusal(
        {**state, fusion: torch.zeros(16, 8, 7, 1, 1)}
    )


@pytest.mark.slow
def test_lateral_convolutions_of_r152_are_as_long_as_in_the_weights(monkeypatch):
    monkeypatch.setitem(slowfast._DEPTHS, "r152", 18)
    monkeypatch.setitem(LATERAL, 18, 7)
    library = library_net(18)
    net = create_backbone("slowfast:r152", "rgb", library.state_dict())
    with torch.inference_mode():
        assert error(net.classify(clip()), library(pathways(clip()))) < PARITY


def test_unknown_streams_and_variants_are_refused():
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("slowfast", "flow", "random:0")
    with pytest.raises(UsageError, match="no variant 'r18'"):
        create_backbone("slowfast:r18", "rgb", "random:0")


@pytest.mark.slow
def test_random_weights_keep_the_scale_and_say_so():
    net, same, other = (create_backbone("slowfast:r50", "rgb", f"random:{seed}") for seed in (0, 0, 1))
    assert net.identity["weights"] == {"random": 0}
    with torch.inference_mode():
        features = net(clip())
        assert torch.equal(features, same(clip()))
        assert not torch.equal(features, other(clip()))
        assert not torch.equal(features, net(clip(seed=1)))
    assert 0.01 < features.std() < 100
    assert len({json.dumps(found.identity, sort_keys=True) for found in (net, same, other)}) == 2


def test_frames_are_taken_cut_and_scaled(small):
    net = create_backbone("slowfast", "rgb", "random:0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 256, 341, 3), np.uint8)
    kept = frames.copy()
    clips = net.preprocess(frames)
    assert (clips.shape, clips.dtype) == ((2, 3, 32, 256, 256), torch.float32)
    expected = (frames[:, ::2, :, 42:298].transpose(0, 4, 1, 2, 3).astype(np.float32) / 255 - 0.45) / 0.225
    assert np.abs(clips.numpy() - expected).max() < 1e-5
    assert (frames == kept).all()
    assert net.preprocess(frames[:, :, :200, :301]).shape == (2, 3, 32, 200, 256)
    ends = net.preprocess(np.array([0, 255], np.uint8)[:, None, None, None, None] * np.ones((1, 2, 9, 9, 3), np.uint8))
    assert torch.allclose(ends[:, 0, 0, 0, 0], torch.tensor([-2.0, 0.55 / 0.225]))


def test_extract_takes_frames_of_any_size(small):
    net = create_backbone("slowfast", "rgb", "random:0")
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (37, 90), (90, 37)):
        frames = rng.integers(0, 256, (2, 64, height, width, 3), np.uint8)
        features = net.extract(frames)
        assert (features.shape, features.dtype) == ((2, 2304), np.float32)
        assert np.isfinite(features).all()
        assert np.abs(net.extract(frames[:1]) - features[:1]).max() < 1e-4 * np.abs(features).max()
    assert (net.dim, net.span, net.crop, net.size.short_side, net.size.enlarge) == (2304, 64, 256, 256, True)
    assert (slowfast.STREAMS, slowfast.FLOW, slowfast.STRIDE) == (("rgb",), "", 16)


def test_identity_says_what_the_network_sees(small):
    identity = create_backbone("slowfast", "rgb", "random:0").identity
    assert json.loads(json.dumps(identity)) == identity
    assert identity["variant"] == "r101"
    seen = identity["preprocessing"]
    assert (seen["mean"], seen["std"], seen["frames"], seen["step"]) == ([0.45] * 3, [0.225] * 3, 32, 2)
    assert "slow pathway sees 8" in seen["note"]
    assert identity["library"].startswith("pytorchvideo 0.")


@pytest.mark.slow
def test_torchvision_can_be_imported_even_after_it_failed():
    code = """
try:
    import torchvision
except RuntimeError:
    pass
from wtal.extractors import torchvision_guard
torchvision_guard.ready()
torchvision_guard.ready()
import torchvision.models.video
assert len(torchvision_guard._declared) == (not torchvision.extension._has_ops())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_torchvision_is_refused_in_one_line(monkeypatch):
    def fail(*_):
        raise RuntimeError("torchvision was built for CUDA 12\nand much more")

    monkeypatch.setattr(torchvision_guard, "require", fail)
    with pytest.raises(MissingExtraError, match=r"^torchvision does not fit torch .* \(torchvision was .* CUDA 12\)"):
        ready()


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = create_backbone("slowfast:r50", "rgb", "random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 256, 256, 3), np.uint8)
    on_cpu = torch.from_numpy(net.extract(frames))
    assert error(torch.from_numpy(net.to(cuda).extract(frames)), on_cpu) < 1e-3


def test_weights_are_documented():
    assert {weights.variant for weights in slowfast.WEIGHTS.values()} == {"r101", "r50"}
    for name, weights in slowfast.WEIGHTS.items():
        assert weights.filename.lower() == f"{name}.pyth"
        assert weights.url.startswith("https://")
        assert weights.licence == "Apache-2.0"
        assert 0 < min(weights.accuracy.values()) < 100
