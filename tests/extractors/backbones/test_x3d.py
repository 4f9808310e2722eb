"""X3D: the library's numbers, its published layout and sizes, and its few operations."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.support.reference import reference_weights
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.backbones import csn, slowfast, x3d
from wtal.extractors.torchvision_guard import ready

pytest.importorskip("pytorchvideo")
PARITY = 1e-5
"""Largest error allowed, relative to the largest value."""
CLASSES = 11


def library_net(variant, classes=CLASSES):
    """Network of pytorchvideo of a published size with numbers of this test."""
    ready()
    from pytorchvideo.models import hub

    net = getattr(hub, f"x3d_{variant}")(model_num_class=classes, head_activation=None)
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    net.load_state_dict({key: torch.from_numpy(np.asarray(v)) for key, v in reference_weights(shapes).items()})
    return net.eval()


def clip(length, side, seed=0):
    return torch.randn(2, 3, length, side, side, generator=torch.Generator().manual_seed(seed))


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def library_feature(net, clips):
    """Input (N, 2048) of the library's classifier, and the class scores."""
    seen = []
    hook = net.blocks[-1].pool.register_forward_hook(lambda _, __, out: seen.append(out))
    logits = net(clips)
    hook.remove()
    return seen[0].mean(dim=(2, 3, 4)), logits


def refusal(weights, variant="s"):
    with pytest.raises(WeightsError) as caught:
        create_backbone(f"x3d:{variant}", "rgb", weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def published():
    """A checkpoint in the published layout of all three sizes, which is one."""
    return library_net("xs").state_dict()


@pytest.mark.parametrize(
    ("variant", "length", "side"),
    [("xs", 4, 182), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("s", 13, 182), ("m", 16, 256)))],
)
def test_equal_to_the_library_at_the_published_size(variant, length, side):
    library = library_net(variant)
    net = create_backbone(f"x3d:{variant}", "rgb", library.state_dict())
    clips = clip(length, side)[: 1 if variant == "m" else 2]
    with torch.inference_mode():
        feature, logits = library_feature(library, clips)
        assert net.feature_map(clips).shape[1:] == (2048, 1, 2, 2)
        assert error(net(clips), feature) < PARITY
        assert error(net.classify(clips), logits) < PARITY
    assert not net.training


@pytest.mark.parametrize("variant", x3d.VARIANTS)
def test_built_as_the_library_builds_its_published_networks(variant):
    library, net = library_net(variant, 400), x3d.X3D(variant)
    shapes = [{key: value.shape for key, value in found.state_dict().items()} for found in (net, library)]
    assert shapes[0] == shapes[1]
    assert library.blocks[5].pool.pool.kernel_size == net.pool
    assert {"blocks.0.conv.conv_t.weight", "blocks.5.pool.post_conv.weight", "blocks.5.proj.bias"} < set(shapes[0])
    assert 3.7e6 < sum(parameter.numel() for parameter in net.parameters()) < 3.8e6


@pytest.mark.parametrize(
    ("variant", "frames", "step", "side"), [("xs", 4, 12, 182), ("s", 13, 6, 182), ("m", 16, 5, 256)]
)
def test_each_size_sees_what_is_published(variant, frames, step, side):
    about = x3d.describe("rgb", variant)
    assert (about.dim, about.frames, about.step, about.span) == (2048, frames, step, frames * step)
    assert (about.size.short_side, about.crop, about.side) == (side, side, side)
    assert (about.pixels.mean, about.pixels.std) == ((0.45,) * 3, (0.225,) * 3)
    weights = x3d.WEIGHTS[f"x3d_{variant}"]
    assert (weights.variant, weights.filename) == (variant, f"X3D_{variant.upper()}.pyth")


def test_a_checkpoint_in_the_published_layout(published, tmp_path, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", str(tmp_path))
    path = tmp_path / "weights" / "X3D_S.pyth"
    path.parent.mkdir()
    torch.save({"model_state": published, "epoch": 300, "cfg": "text"}, path)
    by_path, by_name, by_default = (create_backbone("x3d", "rgb", weights) for weights in (path, "x3d_s", None))
    with torch.inference_mode():
        found = by_path(clip(4, 48))
        assert found.shape == (2, 2048)
        assert (found[0] - found[1]).abs().max() > 1e-3
        assert torch.equal(by_name(clip(4, 48)), found)
    assert by_path.identity == by_name.identity == by_default.identity
    assert len(by_path.identity["weights"]["sha256"]) == 64
    assert "are for xs, wanted s" in refusal("x3d_xs")


def test_wrong_weights_are_refused_by_name(published, tmp_path):
    projection = "blocks.5.pool.post_conv.weight"
    assert f"x3d s weights: the keys do not fit: 1 missing ({projection})" in refusal(
        {key: value for key, value in published.items() if key != projection}
    )
    assert "1 unknown (head.extra)" in refusal({**published, "head.extra": torch.zeros(1)})
    assert f"1 other shape ({projection} [3, 3], wanted [2048, 432, 1, 1, 1])" in refusal(
        {**published, projection: torch.zeros(3, 3)}
    )
    assert "does not exist; pass a checkpoint" in refusal(tmp_path / "absent.pyth")
    with pytest.raises(UsageError, match="no stream 'flow'"):
        create_backbone("x3d", "flow", "random:0")
    with pytest.raises(UsageError, match="no variant 'l'"):
        create_backbone("x3d:l", "rgb", "random:0")


def test_random_weights_keep_the_scale_and_say_so():
    net, same, other = (create_backbone("x3d:xs", "rgb", f"random:{seed}") for seed in (0, 0, 1))
    assert net.identity["weights"] == {"random": 0}
    with torch.inference_mode():
        features = net(clip(4, 64))
        assert torch.equal(features, same(clip(4, 64)))
        assert not torch.equal(features, other(clip(4, 64)))
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert 0.01 < features.std() < 100


@pytest.mark.parametrize("variant", x3d.VARIANTS)
def test_frames_in_the_middle_are_taken_cut_and_scaled(variant):
    net = create_backbone(f"x3d:{variant}", "rgb", "random:0")
    frames = np.random.default_rng(0).integers(0, 256, (1, net.span, net.crop + 4, net.crop + 60, 3), np.uint8)
    clips = net.preprocess(frames)
    step, side = net.about.step, net.crop
    first = {12: 5, 6: 2, 5: 2}[step]
    seen = frames[:, first::step, 2 : 2 + side, 30 : 30 + side].transpose(0, 4, 1, 2, 3)
    assert clips.shape == (1, 3, net.about.frames, side, side)
    assert (clips - torch.from_numpy((seen / 255 - 0.45) / 0.225)).abs().max() < 1e-5


def multiplications(net, frames, side):
    """Count the operations for one clip without computing them; parameters and clip have no values."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.to("meta")(torch.zeros(1, 3, frames, side, side, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.slow
def test_it_computes_a_small_part_of_what_csn_and_slowfast_do():
    found = {variant: multiplications(x3d.X3D(variant), size.frames, size.side) for variant, size in x3d._SIZES.items()}
    assert found["xs"] < found["s"] < found["m"]
    for variant, count in (("xs", 0.91e9), ("s", 2.96e9), ("m", 6.72e9)):
        assert 0.85 < found[variant] / count < 1
    others = {
        "csn": multiplications(csn.CSN("r101", csn.PYTORCHVIDEO), csn.FRAMES, 256),
        "slowfast": multiplications(slowfast.SlowFast("r101"), slowfast.FRAMES, slowfast.CROP),
    }
    assert 25 < others["csn"] / found["s"] < 30
    assert 40 < others["slowfast"] / found["s"] < 50
