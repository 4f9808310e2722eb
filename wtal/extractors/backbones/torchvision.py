"""The video networks of torchvision: 16 or 32 frames -> 512, 768 or 1024 numbers.

- `r2plus1d_18`, `r3d_18`, `mc3_18`: residual networks of 18 layers whose convolutions are split into space and time,
  whole, or whole only in the first layers. Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action
  Recognition" (CVPR 2018). 16 frames, every second one; 512 numbers, the mean of the last map.
- `s3d`: Inception with split convolutions. Xie et al., "Rethinking Spatiotemporal Feature Learning: Speed-Accuracy
  Trade-offs in Video Classification" (ECCV 2018). 32 frames, every second one; 1024 numbers, the mean of the last map.
- `mvit_v2_s`: Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection" (CVPR
  2022). 16 frames, every fourth one; 768 numbers, the class token after the last normalization.
- `swin3d_t`, `swin3d_s`, `swin3d_b`: Liu et al., "Video Swin Transformer" (CVPR 2022). 32 frames, every second one;
  768, 768 and 1024 numbers, the mean of the last map after its normalization.

Networks, keys and preprocessing are torchvision's own. Pictures have a shorter side of 256 pixels; the residual
networks and S3D stretch them to 128 x 171 and 256 x 256, whatever their aspect, bilinearly without antialiasing; then
the centre is cut out, or each of ten crops. The feature is the input of the dropout and the last layer.

The step between frames is that of training (15 frames per second, MViT 7.5), converted for 25 or 30 frames per second.
Two deviations: S3D, trained on 64 frames, uses 32, so that no window is longer than 64 frames of the store; and if its
last map is smaller than the (2, 7, 7) window of its pool, the whole map is averaged, where the original fails. Only
MViT is restricted to clips of one size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.errors import require
from wtal.extractors.backbone import Backbone, Description, Pixels, WeightsSource, ten_crops
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.torchvision_guard import EXTRA, ready
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise
from wtal.extractors.weights.checkpoint import State

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ("r2plus1d_18", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b", "s3d", "r3d_18", "mc3_18")

_FILES = "https://download.pytorch.org/models"
_PAGES = "https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.video"
_KINETICS = "Kinetics-400"
_CLASSES = 400
_SHORT_SIDE, _CROP = 256, 224
"""Pixels of incoming frames: their shorter side, and the part used: 224 of 256, or 112 of 128."""

_Triple = tuple[float, float, float]


def _published(
    variant: str, file: str, top1: float, top5: float, trained_on: str = _KINETICS, licence: str = "BSD-3-Clause"
) -> Weights:
    """Return an entry of torchvision's: the file's name ends in the first digits of its SHA-256."""
    return Weights(
        stream="rgb",
        variant=variant,
        url=f"{_FILES}/{file}.pth",
        sha256=file.rpartition("-")[2],
        licence=licence,
        source=f"{_PAGES}.{variant}.html",
        trained_on=trained_on,
        layout="torchvision",
        accuracy={f"{_KINETICS} top-1": top1, f"{_KINETICS} top-5": top5},
    )


_PORTED = "Apache-2.0"
"""Licence of the repositories that MViT's and Swin's weights were ported from."""
_IMAGENET_1K, _IMAGENET_22K = f"ImageNet-1K, then {_KINETICS}", f"ImageNet-22K, then {_KINETICS}"

WEIGHTS = {
    "r2plus1d_18_k400": _published("r2plus1d_18", "r2plus1d_18-91a641e6", 67.463, 86.175),
    "mvit_v2_s_k400": _published("mvit_v2_s", "mvit_v2_s-ae3be167", 80.757, 94.665, licence=_PORTED),
    "swin3d_t_k400": _published("swin3d_t", "swin3d_t-7615ae03", 77.715, 93.519, _IMAGENET_1K, _PORTED),
    "swin3d_s_k400": _published("swin3d_s", "swin3d_s-da41c237", 79.521, 94.158, _IMAGENET_1K, _PORTED),
    "swin3d_b_k400": _published("swin3d_b", "swin3d_b_1k-24f7c7c6", 79.427, 94.386, _IMAGENET_1K, _PORTED),
    "swin3d_b_22k_k400": _published("swin3d_b", "swin3d_b_22k-7c6ae6fa", 81.643, 95.574, _IMAGENET_22K, _PORTED),
    "s3d_k400": _published("s3d", "s3d-d76dad2f", 68.368, 88.050),
    "r3d_18_k400": _published("r3d_18", "r3d_18-b3b3357e", 63.200, 83.479),
    "mc3_18_k400": _published("mc3_18", "mc3_18-a90a0ba3", 63.960, 84.130),
}


def _resnet_map(network: Any, clips: Tensor) -> Tensor:
    """Map (N, 3, L, H, W) -> (N, 512, t, h, w): the input of the average pool."""
    x: Tensor = network.stem(clips)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
    return x


def _s3d_map(network: Any, clips: Tensor) -> Tensor:
    """Map (N, 3, L, H, W) -> (N, 1024, t, h, w) after the pool of (2, 7, 7), or of the whole map if smaller."""
    x: Tensor = network.features(clips)
    window = [min(length, limit) for length, limit in zip(x.shape[2:], (2, 7, 7), strict=True)]
    return F.avg_pool3d(x, window, stride=1)


def _mvit_map(network: Any, clips: Tensor) -> Tensor:
    """Map (N, 3, 16, 224, 224) -> (N, 768, 1): the class token is one cell for the whole clip."""
    places = network.pos_encoding
    tokens: Tensor = places(network.conv_proj(clips).flatten(2).transpose(1, 2))
    grid = (places.temporal_size, *places.spatial_size)
    for block in network.blocks:
        tokens, grid = block(tokens, grid)
    normal: Tensor = network.norm(tokens)
    return normal[:, :1].transpose(1, 2)


def _swin_map(network: Any, clips: Tensor) -> Tensor:
    """Map (N, 3, L, H, W) -> (N, D, t, h, w), channels first after the last normalization."""
    x: Tensor = network.norm(network.features(network.pos_drop(network.patch_embed(clips))))
    return x.permute(0, 4, 1, 2, 3)


@dataclass(frozen=True)
class _Form:
    """One network: the frames and pixels that it uses, and the position of its feature.

    `frames` of the window, every `step`-th; `resize` is the shorter side, or (height, width), in pixels, before the
    `crop` of the centre; `values` are the means and deviations of the colours. `tap` returns the map whose mean is the
    feature, described by `tapped`; `last` is the module with the last layer, `bias` the key of its bias.
    """

    dim: int
    frames: int
    step: int
    resize: int | tuple[int, int]
    crop: int
    values: tuple[_Triple, _Triple]
    tap: Callable[[Any, Tensor], Tensor]
    tapped: str
    last: str
    bias: str


_KINETICS_VALUES: tuple[_Triple, _Triple] = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
_RESNET = _Form(
    dim=512,
    frames=16,
    step=2,
    resize=(128, 171),
    crop=112,
    values=_KINETICS_VALUES,
    tap=_resnet_map,
    tapped="mean of the last map",
    last="fc",
    bias="fc.bias",
)
_S3D = _Form(
    dim=1024,
    frames=32,
    step=2,
    resize=(256, 256),
    crop=224,
    values=_KINETICS_VALUES,
    tap=_s3d_map,
    tapped="mean of the last map",
    last="classifier",
    bias="classifier.1.bias",
)
_MVIT = _Form(
    dim=768,
    frames=16,
    step=4,
    resize=_SHORT_SIDE,
    crop=224,
    values=((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    tap=_mvit_map,
    tapped="class token after the last normalisation",
    last="head",
    bias="head.1.bias",
)
_SWIN = _Form(
    dim=768,
    frames=32,
    step=2,
    resize=_SHORT_SIDE,
    crop=224,
    values=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    tap=_swin_map,
    tapped="mean of the last map after its normalisation",
    last="head",
    bias="head.bias",
)
_FORMS = {
    "r2plus1d_18": _RESNET,
    "mvit_v2_s": _MVIT,
    "swin3d_t": _SWIN,
    "swin3d_s": _SWIN,
    "swin3d_b": replace(_SWIN, dim=1024),
    "s3d": _S3D,
    "r3d_18": _RESNET,
    "mc3_18": _RESNET,
}


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "TorchvisionVideo":
    """Create the network `variant` for `stream` "rgb"; `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        WeightsError: when the weights are missing, damaged, or do not fit.
        MissingExtraError: when torchvision is not installed.
    """
    variant = variant or VARIANTS[0]
    if (seed := random_seed(weights)) is not None:
        model = TorchvisionVideo(variant, _network(variant, _CLASSES, seed))
        model.identity["weights"] = randomise(model, seed)
        return model
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant)
    model = TorchvisionVideo(variant, _network(variant, _classes(state, variant)))
    load_strict(model.network, state, f"torchvision {variant} weights")
    model.identity["weights"] = identity
    return model


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of the network `variant`."""
    form = _FORMS[variant or VARIANTS[0]]
    return Description(
        dim=form.dim,
        span=form.frames * form.step,
        frames=form.frames,
        step=form.step,
        size=TorchvisionVideo.size,
        crop=_CROP,
        side=form.crop,
        pixels=Pixels(*form.values),
        tap=form.tapped,
        resize=form.resize,
    )


class TorchvisionVideo(Backbone):
    """A complete video network of torchvision; its feature is taken before the last layer.

    `feature_map` returns (N, D, t, h, w), for MViT (N, D, 1); `forward` its mean, (N, D); `classify` the class scores,
    which are those of the network itself. `crop` counts pixels of incoming frames, `form.crop` those that the network
    uses.
    """

    stream = "rgb"
    size = FrameSize(short_side=_SHORT_SIDE, enlarge=True)
    crop = _CROP

    def __init__(self, variant: str, network: nn.Module) -> None:
        super().__init__()
        self.form = _FORMS[variant]
        self.about = describe(self.stream, variant)
        self.dim, self.span = self.about.dim, self.about.span
        self.network = network
        self.identity: dict[str, Any] = {
            "backbone": "torchvision",
            "variant": variant,
            "preprocessing": self.about.to_json(),
            "library": f"torchvision {version('torchvision')}",
        }

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, span, H, W, 3) uint8 RGB -> (N, 3, span / step, side, side) float32, normalized, any H x W.

        Every `step`-th frame is used, centred in the window; half margins are rounded to even.
        """
        pictures, side = self._resized(frames), self.form.crop
        top, left = (round((length - side) / 2) for length in pictures.shape[2:4])
        return self._normalised(pictures[:, :, top : top + side, left : left + side])

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Tensor]:
        """Preprocess each of `ten_crops` of the resized pictures, otherwise like `preprocess`."""
        for view in ten_crops(self._resized(frames), self.form.crop, is_flow=False):
            yield self._normalised(view)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, D, t, h, w), for MViT (N, D, 1); its mean is the feature."""
        return self.form.tap(self.network, clips)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, D)."""
        return self.feature_map(clips).flatten(2).mean(dim=2)

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, classes) logits."""
        features = self(clips)
        last = self.network.get_submodule(self.form.last)
        # S3D's last layer is a convolution, which commutes with the mean over the map.
        scores: Tensor = last(features[..., None, None, None] if self.form.tap is _s3d_map else features)
        return scores.flatten(1)

    def _resized(self, frames: NDArray[Any]) -> NDArray[np.uint8]:
        """Resize (N, span, H, W, 3) uint8 -> (N, L, H', W', 3) uint8: the frames used, at the size before the crop."""
        seen = frames[:, (self.form.step - 1) // 2 :: self.form.step]
        size = seen.shape[2:4]
        if (target := _target(size, self.form.resize)) == size:
            return seen
        resized = np.empty((*seen.shape[:2], *target, 3), np.uint8)
        for whole, pictures in zip(resized, seen, strict=True):
            x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()
            x = F.interpolate(x, target, mode="bilinear", align_corners=False).round_()
            whole[:] = x.permute(0, 2, 3, 1).numpy()
        return resized

    def _normalised(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Normalize (N, L, side, side, 3) uint8 -> (N, 3, L, side, side) float32."""
        x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 4, 1, 2, 3))).float()
        mean, std = (torch.tensor(values)[:, None, None, None] for values in self.form.values)
        return x.div_(255).sub_(mean).div_(std)


def _target(size: tuple[int, ...], wanted: int | tuple[int, int]) -> tuple[int, ...]:
    """Map (H, W) -> `wanted`, or its shorter side to `wanted` and the longer in proportion, rounded down."""
    if not isinstance(wanted, int):
        return wanted
    return tuple(wanted * length // min(size) for length in size)


def _classes(state: State, variant: str) -> int:
    bias = state.get(_FORMS[variant].bias)
    return len(bias) if bias is not None and bias.ndim else _CLASSES


def _network(variant: str, classes: int, seed: int = 0) -> nn.Module:
    """Create torchvision's network with random numbers from `seed`; the caller's random state is unchanged."""
    ready()
    video: Any = require("torchvision.models.video", EXTRA)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network: nn.Module = getattr(video, variant)(num_classes=classes)
    return network
