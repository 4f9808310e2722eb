"""SlowFast 8x8 on RGB: 32 frames from a window of 64 -> 2304 numbers.

Feichtenhofer, Fan, Malik and He, "SlowFast Networks for Video Recognition" (ICCV 2019), as built by pytorchvideo; our
weights use the keys of the `.pyth` files published by pytorchvideo. The Fast pathway sees every second frame of the
window, the Slow pathway every fourth of those, and lateral convolutions lead from Fast to Slow. The feature is the
input of the classifier, before dropout: the average pools of both pathways, 2048 Slow and 256 Fast channels,
concatenated.

The lateral convolutions of ResNet-50 are 7 frames long, those of ResNet-101 5, as published. No weights are published
for ResNet-152; it is built like ResNet-101, unless the lateral convolutions of the given weights have another length.

One deviation: if a pathway's last map is smaller than its pool (clips of under 32 frames or of under 193 pixels), the
whole map is averaged, where the original fails.
"""

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
VARIANTS = ("r101", "r50", "r152")

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_SOURCE = "https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md"

WEIGHTS = {
    "slowfast_8x8_r101": Weights(
        stream="rgb",
        variant="r101",
        url=f"{_ZOO}/SLOWFAST_8x8_R101.pyth",
        licence="Apache-2.0",
        source=_SOURCE,
        trained_on="Kinetics-400",
        layout="pytorchvideo",
        accuracy={"Kinetics-400 val top-1": 77.90, "Kinetics-400 val top-5": 93.27},
        unchecked="no hash is published",
    ),
    "slowfast_8x8_r50": Weights(
        stream="rgb",
        variant="r50",
        url=f"{_ZOO}/SLOWFAST_8x8_R50.pyth",
        licence="Apache-2.0",
        source=_SOURCE,
        trained_on="Kinetics-400",
        layout="pytorchvideo",
        accuracy={"Kinetics-400 val top-1": 76.94, "Kinetics-400 val top-5": 92.69},
        unchecked="no hash is published",
    ),
}

FRAMES = 32
"""Number of frames for the Fast pathway."""
FRAME_STEP = 2
"""Step between the frames of the Fast pathway, in frames of the window."""
ALPHA = 4
"""Fast frames per Slow frame (paper, section 3.1)."""
CROP = 256
MEAN, STD = 0.45, 0.225
"""Mean and deviation of every colour, for pixels from 0 to 1."""

_DEPTHS = {"r50": 50, "r101": 101, "r152": 152}
_LATERAL_FRAMES = {"r50": 7, "r101": 5, "r152": 5}
_LATERAL = "blocks.0.multipathway_fusion.conv_fast_to_slow.weight"
_CLASSES = 400
_CLASSIFIER_BIAS = "blocks.6.proj.bias"
_STAGES = 5
"""Number of blocks before the pools: the stems and four residual stages, of both pathways."""
_POOLS = ((FRAMES // ALPHA, 7, 7), (FRAMES, 7, 7))
"""Windows of the average pools over the last map, Slow and Fast."""


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "SlowFast":
    """Create SlowFast `variant` (one of `VARIANTS`); `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        MissingExtraError: when pytorchvideo is not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    variant = variant or VARIANTS[0]
    if (seed := random_seed(weights)) is not None:
        model = SlowFast(variant)
        model.identity["weights"] = randomise(model, seed)
        share_variance(model, "norm_c.weight")
        return model
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant)
    model = SlowFast(variant, _classes(state), _lateral_frames(state, variant))
    load_strict(model, state, f"slowfast {variant} weights")
    model.identity["weights"] = identity
    return model


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of SlowFast, the same for all variants."""
    return Description(
        dim=SlowFast.dim,
        span=SlowFast.span,
        frames=FRAMES,
        step=FRAME_STEP,
        size=SlowFast.size,
        crop=CROP,
        side=CROP,
        pixels=Pixels((MEAN,) * 3, (STD,) * 3),
        tap="average pools of both pathways, before dropout",
        note=f"the slow pathway sees {FRAMES // ALPHA} of them",
    )


class SlowFast(Backbone):
    """SlowFast up to its pools, with the published classifier.

    `feature_map` returns (N, 2304, t, h, w), Slow channels first; `forward` its mean, (N, 2304); `classify` class
    scores.
    """

    stream = "rgb"
    dim = 2304
    span = FRAMES * FRAME_STEP
    size = FrameSize(short_side=256, enlarge=True)
    crop = CROP

    def __init__(self, variant: str, classes: int = _CLASSES, lateral_frames: int = 0) -> None:
        super().__init__()
        self.about = describe(self.stream, variant)
        ready()
        library = require("pytorchvideo.models.slowfast", EXTRA)
        self.identity: dict[str, Any] = {
            "backbone": "slowfast",
            "variant": variant,
            "stream": self.stream,
            "preprocessing": self.about.to_json(),
            "library": f"pytorchvideo {version('pytorchvideo')}",
        }
        self.blocks: nn.ModuleList = library.create_slowfast(
            model_depth=_DEPTHS[variant],
            model_num_class=classes,
            slowfast_fusion_conv_kernel_size=(lateral_frames or _LATERAL_FRAMES[variant], 1, 1),
        ).blocks

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, 64, H, W, 3) uint8 RGB -> (N, 3, 32, 256, 256): every second frame, (x / 255 - 0.45) / 0.225.

        The centre of the picture is cut out; sides under 256 pixels are not cropped.
        """
        clips = centre_crop(frames[:, ::FRAME_STEP], CROP)
        x = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).float()
        return x.div_(255).sub_(MEAN).div_(STD)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2304, t, h, w) after the pools: 1 x 2 x 2 for 32 x 256 x 256.

        L is a multiple of 4.
        """
        pathways = [clips[:, :, slow_frames(clips.shape[2])], clips]
        for stage in self.blocks[:_STAGES]:
            pathways = stage(pathways)
        return torch.cat([_average(x, pool) for x, pool in zip(pathways, _POOLS, strict=True)], dim=1)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2304), the mean of the feature map."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, classes) logits."""
        head: Any = self.blocks[-1]
        logits: Tensor = head.proj(self(clips))
        return logits


def slow_frames(length: int) -> list[int]:
    """Return the indices of `length` Fast frames used by the Slow pathway: a quarter, from the first to the last.

    Computed in integers, so that every runtime agrees. The library's rounding differs from 95 frames on.
    """
    count = int(length) // ALPHA
    return [k * (int(length) - 1) // max(count - 1, 1) for k in range(count)]


def _average(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """Average (N, C, t, h, w) under a window that moves by 1, no larger than the map."""
    return F.avg_pool3d(x, [min(sides) for sides in zip(x.shape[2:], window, strict=True)], stride=1)


def _classes(state: State) -> int:
    bias = state.get(_CLASSIFIER_BIAS)
    return len(bias) if bias is not None and bias.ndim else _CLASSES


def _lateral_frames(state: State, variant: str) -> int:
    """Return the length of the lateral convolutions; for the published r50 and r101, regardless of the weights."""
    kernel = state.get(_LATERAL)
    return kernel.shape[2] if variant == "r152" and kernel is not None and kernel.ndim == 5 else 0
