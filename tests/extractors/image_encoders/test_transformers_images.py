"""Image encoders of transformers: the library's numbers, from tiny models written by these tests."""

import json

import numpy as np
import pytest
import torch

from tests.support.encoders import PARITY, SIDE, VIT, edit, error, filled, transformers, write
from wtal.errors import UsageError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.extractors.image_encoders import create_encoder

SQUARE = {"height": SIDE, "width": SIDE}
NARROW = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
MODELS = {
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(image_size=SIDE, **VIT)),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(image_size=70, **VIT)),
    "resnet": lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(**NARROW)),
    "swin": lambda: transformers.SwinModel(
        transformers.SwinConfig(image_size=SIDE, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2)
    ),
}
PROCESSOR = {
    "vit": {"size": SQUARE},
    "dinov2": {"size": {"shortest_edge": 36}, "crop_size": SQUARE, "do_center_crop": True, "resample": 3},
    "resnet": {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875, "resample": 3},
    "swin": {"size": SQUARE, "resample": 3},
}
WITH_CLASS_TOKEN = ("vit", "dinov2")
NORMAL = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def folder_of(path, family):
    """Write a folder as it is published; return the saved network."""
    network = filled(MODELS[family]())
    network.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR[family], **NORMAL}))
    return network


def refusal(path, weights=None):
    with pytest.raises(WeightsError) as caught:
        create_encoder(str(path), weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@torch.inference_mode()
@pytest.mark.parametrize("family", MODELS)
def test_equal_to_the_library(family, tmp_path):
    network = folder_of(tmp_path, family)
    encoder = create_encoder(str(tmp_path))
    pictures = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    last = getattr(network, network.base_model_prefix, network)(pictures).last_hidden_state
    averaged = last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
    wanted = last[:, 0] if family in WITH_CLASS_TOKEN else averaged
    assert encoder.encoding.tap == ("class token" if family in WITH_CLASS_TOKEN else "mean of the last map")
    assert error(encoder(pictures), wanted) < PARITY
    assert wanted.shape == (2, encoder.encoding.dim)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("family", "resize"), [("vit", (SIDE, SIDE)), ("dinov2", 36), ("resnet", 36), ("swin", (SIDE, SIDE))]
)
def test_pictures_are_prepared_as_the_file_says(family, resize, tmp_path):
    folder_of(tmp_path, family)
    pictures = create_encoder(str(tmp_path), "random:0").encoding.pictures
    assert (pictures.resize, pictures.crop) == (resize, SIDE)
    assert pictures.mode == ("bilinear" if family == "vit" else "bicubic")
    assert pictures.pixels.mean == pytest.approx(NORMAL["image_mean"])
    assert pictures.pixels.std == pytest.approx(NORMAL["image_std"])


def test_settings_under_the_name_of_today(tmp_path):
    folder_of(tmp_path, "vit")
    wanted = create_encoder(str(tmp_path))
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    edit(tmp_path / "preprocessor_config.json", size=None)
    assert create_encoder(str(tmp_path)).encoding == wanted.encoding


def test_pictures_of_another_size_than_the_model_takes_are_refused(tmp_path):
    folder_of(tmp_path, "vit")
    edit(tmp_path / "preprocessor_config.json", crop_size={"height": 48, "width": 48})
    assert "the model in config.json takes 32" in refusal(tmp_path)


def test_what_is_no_encoder_of_images(tmp_path):
    write(tmp_path / "video", "videomae")
    assert "is a videomae, wanted an encoder of images, and neither of videos nor of text" in refusal(
        tmp_path / "video"
    )
    text = transformers.BertConfig(vocab_size=9, **VIT)
    transformers.BertModel(text).save_pretrained(tmp_path / "text")
    assert "is a bert, wanted an encoder of images" in refusal(tmp_path / "text")
    folder_of(tmp_path / "bare", "vit")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    assert "has neither preprocessor_config.json" in refusal(tmp_path / "bare")


def test_a_name_that_nobody_has_is_refused_with_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UsageError, match=r"no image encoder 'resnet19'; did you mean 'resnet18'.*, or an image encoder of"
    ):
        create_backbone("frames:resnet19", "rgb")
    assert "frames:./absent/model is neither a folder" in refusal("./absent/model")


def test_a_folder_gives_the_store_its_own_name(tmp_path):
    folder_of(tmp_path / "tiny", "vit")
    extractor = Extractor(ExtractorSpec(ExtractConfig(backbone=f"frames:{tmp_path / 'tiny'}")))
    assert extractor.name == "frames:tiny"
    identity = extractor.identity["weights"]["rgb"]
    assert (identity["variant"], identity["model"]) == ("tiny", "vit")
    assert len(identity["weights"]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(extractor.identity)


def test_mean_and_spread_by_hand(tmp_path):
    folder_of(tmp_path, "vit")
    net = create_backbone(f"frames:{tmp_path}", "rgb")
    frames = np.random.default_rng(0).integers(0, 256, (2, net.span, 40, 50, 3), np.uint8)
    clips = net.preprocess(frames)
    assert clips.shape == (2, 3, 4, SIDE, SIDE)
    assert torch.equal(clips, net.pictures.normalised(net.pictures.cut(net.pictures.resized(frames[:, 1::4]))))
    with torch.inference_mode():
        alone = np.stack([net.encoder(clips[:, :, k]).numpy() for k in range(4)])
    wanted = np.concatenate([alone.mean(axis=0), alone.std(axis=0)], axis=1)
    np.testing.assert_allclose(net.extract(frames), wanted, rtol=1e-4, atol=1e-5)
    assert net.dim == 32
    assert (wanted[:, 16:] > 0).all()
