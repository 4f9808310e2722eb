"""Contract of all backbones, variants and streams: input and output as declared."""

import copy
import json

import numpy as np
import pytest
import torch

from tests.support.networks import every_name, first_names, made, shrink, takes_any
from wtal.extractors import create_backbone
from wtal.extractors.backbone import Backbone
from wtal.extractors.backbones import BACKBONES, described, variant_of

BIG = ("torchvision:swin3d_s", "torchvision:swin3d_b")
"""Omitted variants: `torchvision:swin3d_t` is the same code with fewer layers, and these take seconds to build."""
SMALL = {"torchvision:mvit_v2_s": (8, 64), "torchvision:swin3d_t": (4, 64), "torchvision:s3d": (16, 64)}
"""Frames and pixels of small clips, for networks that need other ones than `clips_for`."""


def contract(name, stream, seed=0):
    """Raise unless a backbone keeps the contract, on smaller clips than its own if it accepts them."""
    weightless = not BACKBONES.load(name).WEIGHTS and not takes_any(name)
    net, other = (create_backbone(name, stream, None if weightless else f"random:{seed + k}") for k in (0, 1))
    assert not (net.by_torch and net.training)
    assert net.by_torch == isinstance(net, Backbone)
    assert net.stream == stream
    says_what_it_sees(name, stream, net)
    assert json.loads(json.dumps(net.identity, allow_nan=False)) == net.identity
    assert weightless == (net.identity == other.identity)
    takes_frames_of_any_size(net)
    gives_features(net, clips_for(name, net))
    if net.crop:
        ten_crops_are_clips(net)


def says_what_it_sees(name, stream, net):
    about = net.about
    assert (about.dim, about.span, about.size, about.crop) == (net.dim, net.span, net.size, net.crop)
    assert json.loads(json.dumps(about.to_json())) == about.to_json()
    assert "\n" not in str(about)
    if leaf := described(name):
        variant = variant_of(name)
        which = next(key for key in (f"{variant} {stream}", variant or stream) if key in leaf)
        assert leaf[which] == about
    if net.identity["backbone"] != "motion":  # which has them one by one
        assert net.identity["preprocessing"] == about.to_json()
    frames = frames_for(net, 40, 48)
    if about.pixels:
        colours = np.linspace(20, 200, frames.shape[-1]).astype(frames.dtype) / (1 if net.stream == "rgb" else 40)
        clips = net.preprocess(np.ascontiguousarray(np.broadcast_to(colours, frames.shape)))
        values = colours / 255 if net.stream == "rgb" else colours
        wanted = (values - np.array(about.pixels.mean)) / np.array(about.pixels.std)
        np.testing.assert_allclose(clips.amin(dim=(0, 2, 3, 4)), wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(clips.amax(dim=(0, 2, 3, 4)), wanted, rtol=1e-4, atol=1e-5)
    if about.side:
        clips = net.preprocess(frames_for(net, about.size.short_side, about.size.short_side + 45))
        assert clips.shape[2:] == (about.frames, about.side, about.side)


def frames_for(net, height, width):
    rng = np.random.default_rng(0)
    if net.stream == "flow":
        return rng.normal(0, 3, (1, net.span, height, width, 2)).astype(np.float32)
    return rng.integers(0, 256, (1, net.span, height, width, 3), dtype=np.uint8)


def as_tensor(clips):
    """Convert preprocessed clips, which may be a view of the frames, to a tensor of their own."""
    return torch.tensor(clips) if isinstance(clips, np.ndarray) else clips


def takes_frames_of_any_size(net):
    """Prepare pictures of one pixel, odd sides and portrait: finite float32 clips; read-only input stays unchanged."""
    for height, width in ((1, 1), (33, 47), (60, 41)):
        frames = frames_for(net, height, width)
        kept = frames.copy()
        frames.flags.writeable = False
        clips = as_tensor(net.preprocess(frames))
        assert (len(clips), clips.dtype) == (1, torch.float32)
        assert clips.shape[2] == net.about.frames
        assert torch.isfinite(clips).all()
        assert np.array_equal(frames, kept)


def clips_for(name, net):
    """Three clips of noise, smaller for speed if the network accepts that."""
    frames = frames_for(net, 64, 72)
    clips = torch.cat([as_tensor(net.preprocess(each)) for each in (frames, 255 - frames)])
    clips = torch.cat([clips, clips[:1].flip(4)])
    length, side = SMALL.get(name, (clips.shape[2] if net.identity["backbone"] == "tdn" else 16, 48))
    return clips[:, :, :length, :side, :side].contiguous()


@torch.inference_mode()
def gives_features(net, clips):
    def features_of(clips, net=net):
        return torch.as_tensor(net.features(clips if net.by_torch else clips.numpy()))

    kept = clips.clone()
    features = features_of(clips)
    assert torch.equal(clips, kept)
    assert (features.shape, features.dtype) == ((3, net.dim), torch.float32)
    assert torch.isfinite(features).all()
    scale = features.abs().max()
    if net.by_torch:
        maps = net.feature_map(clips)
        assert maps.shape[:2] == (3, net.dim)
        assert torch.equal(net(clips), features)
    if net.by_torch and net.identity["backbone"] != "motion":  # whose sums are normalized
        assert (maps.flatten(2).mean(dim=2) - features).abs().max() <= 1e-5 * scale
    assert (features[0] - features[1]).abs().max() > 1e-3 * scale
    for count in (1, 2):
        assert (features_of(clips[:count]) - features[:count]).abs().max() <= 1e-4 * scale
    assert torch.equal(features_of(clips, copy.deepcopy(net)), features)


def ten_crops_are_clips(net):
    frames = frames_for(net, net.size.short_side, net.size.short_side + 45)
    views = list(net.preprocess_ten(frames))
    wanted = net.preprocess(frames)
    assert [view.shape for view in views] == [wanted.shape] * 10
    assert torch.equal(views[4], wanted)


def cases():
    """All variants; those after a leaf's first are marked slow, because together they are."""
    first = first_names()
    return [
        pytest.param(name, stream, id=f"{name}-{stream}", marks=[] if name in first else pytest.mark.slow)
        for name in every_name()
        if name not in BIG
        for stream in BACKBONES.load(name).STREAMS
    ]


@pytest.mark.parametrize(("name", "stream"), cases())
def test_every_backbone_keeps_the_contract(name, stream, tmp_path, monkeypatch):
    shrink(monkeypatch)
    contract(made(name, tmp_path), stream)
