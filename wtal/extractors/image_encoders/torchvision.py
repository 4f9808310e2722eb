"""Image classifiers of torchvision, trained on ImageNet-1K, without their last layer.

- `resnet18`, `resnet50`: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016).
- `mobilenet_v3_large`: Howard et al., "Searching for MobileNetV3" (ICCV 2019).
- `efficientnet_b0`: Tan and Le, "EfficientNet" (ICML 2019).
- `convnext_tiny`: Liu et al., "A ConvNet for the 2020s" (CVPR 2022).
- `swin_t`: Liu et al., "Swin Transformer" (ICCV 2021).

Networks, keys and preprocessing are torchvision's own, those of its default weights. The feature is the input of the
last layer.
"""

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from wtal.errors import require
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.image_encoder import Encoding, ImageEncoder
from wtal.extractors.pictures import Pictures
from wtal.extractors.torchvision_guard import EXTRA, ready
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise

OTHERS = ""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PAGES = "https://docs.pytorch.org/vision/stable/models/generated/torchvision.models"


def _encoding(dim: int, resize: int, mode: str = "bilinear") -> Encoding:
    pictures = Pictures(resize, 224, mode, 1 / 255, 0.0, _MEAN, _STD, to_even=True)
    return Encoding(dim, pictures, "what the last layer is applied to")


ENCODINGS = {
    "resnet18": _encoding(512, 256),
    "resnet50": _encoding(2048, 232),
    "mobilenet_v3_large": _encoding(1280, 232),
    "efficientnet_b0": _encoding(1280, 256, "bicubic"),
    "convnext_tiny": _encoding(768, 236),
    "swin_t": _encoding(768, 232, "bicubic"),
}


def _published(name: str, file: str, top1: float, top5: float, licence: str = "BSD-3-Clause") -> Weights:
    """Return an entry of torchvision's: the file's name ends in the first digits of its SHA-256."""
    return Weights(
        stream="rgb",
        variant=name,
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256=file.rpartition("-")[2],
        licence=licence,
        source=f"{_PAGES}.{name}.html",
        trained_on="ImageNet-1K",
        layout="torchvision",
        accuracy={"ImageNet-1K top-1": top1, "ImageNet-1K top-5": top5},
    )


WEIGHTS = {
    f"{weights.variant}_imagenet": weights
    for weights in (
        _published("resnet18", "resnet18-f37072fd", 69.758, 89.078),
        _published("resnet50", "resnet50-11ad3fa6", 80.858, 95.434),
        _published("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163", 75.274, 92.566),
        _published("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc", 77.692, 93.532, "Apache-2.0"),
        _published("convnext_tiny", "convnext_tiny-983f1562", 82.520, 96.146),
        _published("swin_t", "swin_t-704ceda3", 81.474, 95.776),
    )
}


def create(name: str, weights: WeightsSource = None) -> ImageEncoder:
    """Create the network `name` (one of `ENCODINGS`).

    Raises:
        MissingExtraError: when torchvision is not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    seed = random_seed(weights)
    network = _network(name, seed or 0)
    if seed is not None:
        identity = randomise(network, seed)
    else:
        state, identity = load_weights(weights, WEIGHTS, "rgb", variant=name)
        load_strict(network, state, f"frames {name} weights")
    network.set_submodule(last_layer(network), nn.Identity())
    about = {"library": f"torchvision {version('torchvision')}", "weights": identity}
    return ImageEncoder(network, ENCODINGS[name], _feature, about)


def last_layer(network: nn.Module) -> str:
    """Return the name of the last linear map of a network."""
    names: list[str] = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


def _feature(network: Any, pictures: Tensor) -> Tensor:
    """Map (M, 3, h, w) -> (M, d)."""
    features: Tensor = network(pictures)
    return features


def _network(name: str, seed: int) -> nn.Module:
    """Create torchvision's network with random numbers from `seed`; the caller's random state is unchanged."""
    ready()
    models: Any = require("torchvision.models", EXTRA)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network: nn.Module = getattr(models, name)()
    return network
