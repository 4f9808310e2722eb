"""Video encoders of transformers: the library's numbers, from tiny models written by these tests."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.support.encoders import (
    BARE,
    CLASS_TOKEN,
    PARITY,
    PROCESSORS,
    SIDE,
    WITH_HEAD,
    clip,
    config,
    edit,
    error,
    expected,
    features,
    filled,
    load,
    refusal,
    transformers,
    write,
)
from wtal.extractors.backbones import hf
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec


def pictures(*shape):
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


def test_equal_to_the_library(family, tmp_path):
    for made in (WITH_HEAD[family], BARE[family]):
        folder = tmp_path / made.__name__
        network = write(folder, family, made)
        net = load(folder)
        found = features(net)
        assert error(found, expected(network, family, clip())) < PARITY
        assert found.shape == (2, net.dim)
        assert (found[0] - found[1]).abs().max() > 1e-3
        with torch.inference_mode():
            maps = net.feature_map(clip())
        assert maps.shape == (2, net.dim, 1 if family in CLASS_TOKEN else 2 * 2 * 2)
        assert not net.training
        assert not any(parameter.is_meta for parameter in net.parameters())


@pytest.mark.parametrize("family", ["videomae", "timesformer", "vivit"])
def test_the_published_classifier_follows_from_the_feature(family, tmp_path):
    network = write(tmp_path, family)
    found = features(load(tmp_path))
    with torch.inference_mode():
        if family == "videomae":
            found = network.fc_norm(found)
        assert error(network.classifier(found), network(clip().transpose(1, 2)).logits) < PARITY


def test_what_was_saved_for_pretraining_loads(tmp_path):
    network = write(tmp_path, "videomae", transformers.VideoMAEForPreTraining)
    assert error(features(load(tmp_path)), expected(network, "videomae", clip())) < PARITY


def test_an_encoder_of_another_kind(tmp_path):
    """Load VideoPrism, which the leaf does not mention."""
    about = transformers.VideoPrismVisionConfig(
        image_size=SIDE,
        num_frames=4,
        tubelet_size=(1, 16, 16),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        num_spatial_layers=1,
        num_temporal_layers=1,
    )
    network = filled(transformers.VideoPrismVisionModel(about))
    network.save_pretrained(tmp_path)
    PROCESSORS["vjepa2"](crop_size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    with torch.inference_mode():
        tokens = network(clip().transpose(1, 2)).last_hidden_state
    assert error(features(load(tmp_path)), tokens.mean(dim=1)) < PARITY


@pytest.mark.parametrize("size", [(36, 50), (256, 341), (120, 50), (32, 32), (20, 33), (1, 1), (97, 301)])
def test_preprocessing_is_the_librarys(family, size, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    frames = pictures(2, net.span, *size, 3)
    kept = frames.copy()
    clips = net.preprocess(frames)
    seen = frames[:, (net.step - 1) // 2 :: net.step].transpose(0, 1, 4, 2, 3)
    processor = PROCESSORS[family].from_pretrained(tmp_path)
    given = processor([torch.from_numpy(video.copy()) for video in seen], do_sample_frames=False, return_tensors="pt")
    wanted = next(iter(given.values())).transpose(1, 2)
    assert clips.shape == wanted.shape == (2, 3, 4, SIDE, SIDE)
    assert clips.dtype == torch.float32
    # The library interpolates in whole numbers where the processor can: some values are a step of 255 apart.
    step = net.pictures.factor / min(net.pictures.std)
    assert (clips - wanted).abs().max() < 1.01 * step
    assert (clips - wanted).abs().mean() < 0.25 * step
    if size in ((36, 50), (1, 1)):
        assert (clips - wanted).abs().max() < 1e-5
    assert (frames == kept).all()


def test_values_by_hand(tmp_path):
    write(tmp_path, "vivit")
    net = load(tmp_path)
    frames = pictures(1, 64, 36, 36, 3)
    frames.flags.writeable = False
    clips = net.preprocess(frames)
    value = (frames[0, 16 + 7, 2 + 3, 2 + 9, 1] / 127.5 - 1 - 0.5) / 0.5
    assert abs(clips[0, 1, 1, 3, 9].item() - value) < 1e-5
    edit(tmp_path / "video_preprocessor_config.json", offset=False, rescale_factor=1 / 255, image_mean=0.25)
    value = (frames[0, 16 + 7, 2 + 3, 2 + 9, 1] / 255 - 0.25) / 0.5
    assert abs(load(tmp_path).preprocess(frames)[0, 1, 1, 3, 9].item() - value) < 1e-5


@pytest.mark.parametrize(("frames", "step"), [(16, 4), (32, 2), (8, 8), (64, 1), (96, 1), (24, 2)])
def test_frames_are_spread_over_the_window(frames, step, tmp_path):
    about = config("timesformer", num_frames=frames)
    transformers.TimesformerModel(about).save_pretrained(tmp_path)
    PROCESSORS["timesformer"](crop_size=SIDE, size=SIDE).save_pretrained(tmp_path)
    net = load(tmp_path)
    assert (net.frames, net.step, net.span) == (frames, step, frames * step)
    moments = np.arange(net.span, dtype=np.uint8)[None, :, None, None, None] * np.ones((1, 1, SIDE, SIDE, 3), np.uint8)
    seen = net.preprocess(moments)[0, 0, :, 0, 0] * net.pictures.std[0] + net.pictures.mean[0]
    seen = (seen * 255).round().tolist()
    assert seen == list(range((step - 1) // 2, net.span, step))
    assert abs((seen[0] + seen[-1]) / 2 - (net.span - 1) / 2) <= 0.5


def test_frames_to_features(family, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    found = net.extract(pictures(2, net.span, 50, 40, 3))
    assert (found.shape, found.dtype) == ((2, net.dim), np.float32)
    assert (net.stream, net.pictures.crop, net.size.short_side, net.size.enlarge) == ("rgb", SIDE, 256, True)
    assert (hf.STREAMS, hf.FLOW, hf.STRIDE, hf.VARIANTS) == (("rgb",), "", 16, None)


@pytest.mark.parametrize(
    ("size", "crop"), [({"shortest_edge": 32}, 256), ({"shortest_edge": 36}, 228), ({"height": 36, "width": 64}, 228)]
)
def test_ten_crops_are_of_the_picture_that_one_crop_is_of(size, crop, tmp_path):
    write(tmp_path, "videomae")
    edit(tmp_path / "video_preprocessor_config.json", size=size)
    net = load(tmp_path)
    assert net.crop == crop
    frames = pictures(1, net.span, 256, 303, 3)
    views = list(net.preprocess_ten(frames))
    assert [view.shape for view in views] == [(1, 3, 4, SIDE, SIDE)] * 10
    assert torch.equal(views[4], net.preprocess(frames))
    assert torch.equal(views[9], net.preprocess(frames).flip(4))
    assert net.extract(frames, crops=10).shape == (1, 16)


def test_random_weights_need_the_configuration_alone(family, tmp_path):
    write(tmp_path, family)
    (tmp_path / "model.safetensors").unlink()
    before = torch.random.get_rng_state()
    net = load(tmp_path, "random:0")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    same, other = load(tmp_path, "random:0"), load(tmp_path, "random:1")
    assert torch.equal(features(net), features(same))
    assert not torch.equal(features(net), features(other))
    assert (features(net)[0] - features(net)[1]).abs().max() > 1e-3
    assert net.identity["weights"] == {"random": 0}
    assert net.identity == same.identity != other.identity
    assert not net.training


def test_the_identity_is_that_of_the_numbers(tmp_path):
    write(tmp_path / "here" / "tiny", "videomae")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = load(tmp_path / "here" / "tiny"), load(tmp_path / "there" / "tiny")
    assert here.identity == there.identity
    assert str(tmp_path) not in json.dumps(here.identity)
    assert (here.identity["variant"], here.identity["model"]) == ("tiny", "videomae")
    edit(tmp_path / "there" / "tiny" / "config.json", transformers_version="0", id2label={"0": "jump"})
    assert load(tmp_path / "there" / "tiny").identity == here.identity
    edit(tmp_path / "there" / "tiny" / "config.json", layer_norm_eps=1e-3)
    assert load(tmp_path / "there" / "tiny").identity != here.identity


def test_loading_says_nothing_and_leaves_the_log_as_it_was(tmp_path, capfd):
    write(tmp_path, "vivit")
    capfd.readouterr()
    verbosity = transformers.logging.get_verbosity()
    load(tmp_path)
    refusal(tmp_path, {"weight": torch.zeros(1)})
    assert transformers.logging.get_verbosity() == verbosity
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(cuda, family, tmp_path):
    write(tmp_path, family)
    net = load(tmp_path)
    frames = pictures(2, net.span, 64, 64, 3)
    on_cpu = net.extract(frames)
    assert np.abs(net.to(cuda).extract(frames) - on_cpu).max() / np.abs(on_cpu).max() < 2e-2


@pytest.mark.parametrize("way", ["whole", ".", "../tiny", "~/tiny"])
def test_a_folder_gives_the_store_its_own_name_however_it_is_called(way, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    write(folder, "videomae")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    called = str(folder) if way == "whole" else way
    extractor = Extractor(ExtractorSpec(ExtractConfig(backbone=f"hf:{called}")))
    assert extractor.name == "hf:tiny"
    assert extractor.readable.startswith("hf-tiny-rgb-64x16@25")
    assert extractor.identity["weights"]["rgb"]["variant"] == "tiny"
