"""X3D on RGB: 4, 13 or 16 frames from a window of 48 to 80 -> 2048 numbers, at a fraction of the usual arithmetic.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition" (CVPR 2020), as built by pytorchvideo; our
weights use the keys of the `.pyth` files published by pytorchvideo. The three sizes are one network of 3.8 million
parameters applied to more or fewer frames and pixels: `xs` 4 frames, every twelfth, `s` 13, every sixth, both of
182 x 182 pixels; `m` 16, every fifth, of 256 x 256. The published accuracies were measured with these; training cropped
160 and 224 pixels. A clip costs 0.9, 3.0 and 6.7 billion multiplications, as the same page counts them, compared with
75.6 for CSN R101 and 127.2 for SlowFast R101. Times differ by less: torch is slow at convolutions of one channel each.

The feature is the input of the classifier, before dropout: the last map through a 1x1x1 convolution to 432 channels,
its average pool, and another 1x1x1 convolution to 2048 channels with a ReLU.

Two deviations, neither of which changes a published number beyond rounding: Swish is torch's SiLU, which OpenVINO can
compile, and if the last map is smaller than its pool (clips of fewer frames or pixels), the whole map is averaged,
where the original fails.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.errors import require
from wtal.extractors.backbone import Backbone, Description, Pixels, WeightsSource, centre_crop
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.torchvision_guard import EXTRA, ready
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise, share_variance
from wtal.extractors.weights.checkpoint import State

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ("s", "xs", "m")


def _published(variant: str, top1: float, top5: float) -> Weights:
    return Weights(
        stream="rgb",
        variant=variant,
        url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/X3D_{variant.upper()}.pyth",
        licence="Apache-2.0",
        source="https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md",
        trained_on="Kinetics-400",
        layout="pytorchvideo",
        accuracy={"Kinetics-400 val top-1": top1, "Kinetics-400 val top-5": top5},
        unchecked="no hash is published",
    )


WEIGHTS = {
    "x3d_s": _published("s", 73.33, 91.27),
    "x3d_xs": _published("xs", 69.12, 88.63),
    "x3d_m": _published("m", 75.94, 92.72),
}

MEAN, STD = 0.45, 0.225
"""Mean and deviation of every colour, for pixels from 0 to 1."""


@dataclass(frozen=True)
class _Size:
    """Frames of a variant, every `step`-th; pixels of the square that it uses, and of the one in training."""

    frames: int
    step: int
    side: int
    trained: int


_SIZES = {"xs": _Size(4, 12, 182, 160), "s": _Size(13, 6, 182, 160), "m": _Size(16, 5, 256, 224)}
_REDUCTION = 32
"""Pixels of the picture per cell of the last map, down and across."""
_CLASSES = 400
_CLASSIFIER_BIAS = "blocks.5.proj.bias"
_STAGES = 5
"""Number of blocks before the head: the stem and four residual stages."""


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "X3D":
    """Create X3D `variant` (one of `VARIANTS`); `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        MissingExtraError: when pytorchvideo is not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    variant = variant or VARIANTS[0]
    if (seed := random_seed(weights)) is not None:
        model = X3D(variant)
        model.identity["weights"] = randomise(model, seed)
        share_variance(model, "norm_c.weight")
        return model
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant)
    model = X3D(variant, _classes(state))
    load_strict(model, state, f"x3d {variant} weights")
    model.identity["weights"] = identity
    return model


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of X3D `variant`."""
    size = _SIZES[variant or VARIANTS[0]]
    return Description(
        dim=X3D.dim,
        span=size.frames * size.step,
        frames=size.frames,
        step=size.step,
        size=FrameSize(short_side=size.side, enlarge=True),
        crop=size.side,
        side=size.side,
        pixels=Pixels((MEAN,) * 3, (STD,) * 3),
        tap="projected average pool, before dropout",
    )


class X3D(Backbone):
    """X3D up to its projected pool, with the published classifier.

    `feature_map` returns (N, 2048, t, h, w); `forward` its mean, (N, 2048); `classify` class scores.
    """

    stream = "rgb"
    dim = 2048

    def __init__(self, variant: str, classes: int = _CLASSES) -> None:
        super().__init__()
        self.about = describe(self.stream, variant)
        self.span, self.size, self.crop = self.about.span, self.about.size, self.about.crop
        self.step = self.about.step
        size = _SIZES[variant]
        self.pool = (size.frames, size.trained // _REDUCTION, size.trained // _REDUCTION)
        ready()
        library = require("pytorchvideo.models.x3d", EXTRA)
        self.identity: dict[str, Any] = {
            "backbone": "x3d",
            "variant": variant,
            "stream": self.stream,
            "preprocessing": self.about.to_json(),
            "library": f"pytorchvideo {version('pytorchvideo')}",
        }
        self.blocks: nn.ModuleList = library.create_x3d(
            input_clip_length=size.frames,
            input_crop_size=size.trained,
            model_num_class=classes,
            inner_act=nn.SiLU,
        ).blocks

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, span, H, W, 3) uint8 RGB -> (N, 3, frames, side, side): (x / 255 - 0.45) / 0.225.

        Every `step`-th frame is used, centred in the window. The centre of the picture is cut out; sides under `crop`
        pixels are not cropped.
        """
        clips = centre_crop(frames[:, (self.step - 1) // 2 :: self.step], self.crop)
        x = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).float()
        return x.div_(255).sub_(MEAN).div_(STD)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2048, t, h, w), pooled, projected: 1 x 2 x 2 at full size."""
        x = clips
        for stage in self.blocks[:_STAGES]:
            x = stage(x)
        head: Any = self.blocks[-1].pool
        x = head.pre_act(head.pre_norm(head.pre_conv(x)))
        x = F.avg_pool3d(x, [min(sides) for sides in zip(x.shape[2:], self.pool, strict=True)], stride=1)
        projected: Tensor = head.post_act(head.post_conv(x))
        return projected

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2048), the mean of the feature map."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, classes) logits of the mean feature."""
        head: Any = self.blocks[-1]
        logits: Tensor = head.proj(self(clips))
        return logits


def _classes(state: State) -> int:
    bias = state.get(_CLASSIFIER_BIAS)
    return len(bias) if bias is not None and bias.ndim else _CLASSES
