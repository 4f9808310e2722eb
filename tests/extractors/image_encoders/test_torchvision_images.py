"""Image classifiers of torchvision: its numbers before the last layer, its files, its preprocessing."""

import importlib.util

import numpy as np
import pytest
import torch

from wtal.errors import WeightsError
from wtal.extractors.image_encoders import create_encoder
from wtal.extractors.image_encoders import torchvision as leaf
from wtal.extractors.torchvision_guard import ready

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)
ready()

import torchvision.models as theirs  # noqa: E402

QUICK = "resnet18"
NAMES = [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in leaf.ENCODINGS if name != QUICK)]


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_the_last_layer_of_the_feature_is_the_librarys_score(name):
    network = getattr(theirs, name)().eval()
    encoder = create_encoder(name, network.state_dict())
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = encoder(pictures)
    assert features.shape == (2, leaf.ENCODINGS[name].dim)
    scores = network.get_submodule(leaf.last_layer(network))(features)
    assert torch.allclose(scores, network(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", leaf.ENCODINGS)
def test_preprocessing_and_files_are_those_of_the_default_weights(name):
    default = theirs.get_model_weights(name).DEFAULT
    wanted, pictures = default.transforms(), leaf.ENCODINGS[name].pictures
    assert (wanted.resize_size, wanted.crop_size) == ([pictures.resize], [pictures.crop])
    assert (tuple(wanted.mean), tuple(wanted.std)) == (pictures.mean, pictures.std)
    assert wanted.interpolation.value == pictures.mode
    weights = leaf.WEIGHTS[f"{name}_imagenet"]
    assert weights.url == default.url
    assert weights.filename.endswith(f"-{weights.sha256}.pth")
    accuracy = default.meta["_metrics"]["ImageNet-1K"]
    assert dict(weights.accuracy) == {f"ImageNet-1K top-{k}": accuracy[f"acc@{k}"] for k in (1, 5)}


@pytest.mark.parametrize("size", [(256, 341), (256, 455), (257, 300), (300, 256)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "swin_t"])
def test_pictures_are_those_of_the_library(name, size):
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, *size, 3), np.uint8)
    pictures = leaf.ENCODINGS[name].pictures
    ours = pictures.normalised(pictures.cut(pictures.resized(frames)))[0, :, 0]
    wanted = theirs.get_model_weights(name).DEFAULT.transforms()(torch.from_numpy(frames[0, 0].transpose(2, 0, 1)))
    step = 1 / 255 / min(pictures.std)  # the library interpolates in whole numbers
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() < 1.01 * step
    assert (ours - wanted).abs().mean() < 0.25 * step


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(WeightsError, match="frames resnet18 weights: the keys do not fit"):
        create_encoder("resnet18", theirs.resnet34().state_dict())
    with pytest.raises(WeightsError, match="are for resnet50, wanted resnet18"):
        create_encoder("resnet18", "resnet50_imagenet")


def test_random_numbers_of_the_caller_stay_as_they_were():
    before = torch.random.get_rng_state()
    one, same, other = (create_encoder(QUICK, f"random:{seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [encoder.network.conv1.weight for encoder in (one, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
