"""TDN on RGB: 8 or 16 segments of 5 frames -> 2048 numbers.

Wang, Tong, Ji and Wu, "TDN: Temporal Difference Networks for Efficient Action Recognition" (CVPR 2021): a ResNet-50 or
-101 on the middle frame of every segment, supplied with motion in two ways. Within a segment, differences of its 5
frames form a separate stream, which is added to the picture before and after the first stage (`TDN.stem`, the paper's
short-term module, section 3.2). Between segments, differences of neighbours excite channels in every block of the later
stages (`SegmentDifference`, the long-term module, section 3.3).

A variant is a depth and a number of segments: `r101-8`, `r101-16`, `r50-8`, `r50-16`. Module names are the keys of the
checkpoints of github.com/MCG-NJU/TDN. A checkpoint does not reveal the number of segments: weights trained with 16 must
be requested with 16. The feature is taken before dropout and the last layer, and averaged over segments.

Details are those of the published network, on which its weights depend: the convolutions of the ResNet have biases;
picture and differences are weighted .5 and .5 with 8 segments, .75 and .25 with 16; the gate between segments is a
sigmoid minus 1/2, so that it may also weaken a channel; of its three scales, one uses halved maps and two use whole
ones; and afterwards each channel is mixed with the same channel of both neighbours.

Two deviations. The original spreads its segments over a video of about 10 s containing one action. Here they are spread
over a window of 8 frames per segment, of which frames 1 to 5 (counted from 0) are used: 64 frames, or 128, around the
snippet. And a map one cell wide is not halved, where the original fails (pictures under 33 pixels).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.extractors.backbone import Backbone, Description, Pixels, WeightsSource
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise
from wtal.extractors.weights.checkpoint import State

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ("r101-8", "r101-16", "r50-8", "r50-16")

CROP = 224
"""Side of the centre crop in pixels."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue, for values from 0 to 1."""
FRAMES = 5
"""Number of consecutive frames used per segment."""
SEGMENT = 8
"""Frames of the window per segment."""
DEPTHS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}
"""Number of blocks in each of the four stages."""
PICTURE_SHARE = {8: 0.5, 16: 0.75}
"""Segments -> weight of the picture when added to the differences, which get the rest."""

_CLASSES = 400
_REDUCTION = 16
_BRANCH = 0.2
_WRAPPER = "base_model."
_UNUSED = ("conv1_temp.weight", "conv1_temp.bias")


def _published(variant: str, folder: str, top1: float, top5: float) -> Weights:
    """Return one Kinetics-400 checkpoint; each has its own folder on Google Drive."""
    return Weights(
        stream="rgb",
        url=f"https://drive.google.com/drive/folders/{folder}",
        licence="Apache-2.0",
        source="https://github.com/MCG-NJU/TDN",
        trained_on="ImageNet, then Kinetics-400",
        layout="TDN",
        accuracy={"Kinetics-400 top-1 (30 views)": top1, "Kinetics-400 top-5 (30 views)": top5},
        unchecked="no hash is published",
        variant=variant,
        by_hand=True,
        file=f"tdn-{variant}-k400.pth.tar",
    )


WEIGHTS = {
    "r101-8-k400": _published("r101-8", "19KPmxPrdp0VS8fsliOr_8kLj1yfhoqRb", 77.5, 93.6),
    "r101-16-k400": _published("r101-16", "1a82RenTMhmtPI66Y21Xyrr00iVKL8GOC", 78.5, 93.9),
    "r50-8-k400": _published("r50-8", "1UALrg2ABFq-HGPdy8vgZ9mxqkSkuqWET", 76.6, 92.8),
    "r50-16-k400": _published("r50-16", "1p7NC4JjxaLzwfj1JUa4kkHd_KZBxBBYR", 77.5, 93.2),
}


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "TDN":
    """Create TDN of one of `VARIANTS` (default: the first); `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        WeightsError: when the weights are missing, damaged, for another variant, or do not fit.
    """
    variant = variant or VARIANTS[0]
    depth, _, segments = variant.partition("-")
    if (seed := random_seed(weights)) is not None:
        model = TDN(depth, int(segments))
        model.identity["weights"] = randomise(model, seed)
        return model
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant)
    state = from_published(state)
    model = TDN(depth, int(segments), _classes(state))
    load_strict(model, state, f"tdn {variant} weights")
    model.identity["weights"] = identity
    return model


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of TDN, by the number of segments in `variant`."""
    segments = int((variant or VARIANTS[0]).partition("-")[2])
    return Description(
        dim=TDN.dim,
        span=segments * SEGMENT,
        frames=segments * FRAMES,
        step=1,
        size=TDN.size,
        crop=CROP,
        side=CROP,
        pixels=Pixels(MEAN, STD),
        tap="average pool over space and segments, before dropout and the last layer",
        note=f"{segments} segments of {SEGMENT} frames, the middle {FRAMES} of each",
    )


def from_published(state: Mapping[str, Tensor]) -> State:
    """Map the keys of a checkpoint to those of `TDN`.

    The training code wraps the network (`base_model.`) and has its classifier outside (`new_fc`); the bare network
    calls it `fc`. `conv1_temp` is left out: no forward pass uses it. A key that would collide with another keeps its
    name, and is then refused as unknown.
    """
    ours: State = {}
    for key, value in state.items():
        short = key.removeprefix(_WRAPPER)
        name = f"new_{short}" if short.startswith("fc.") else short
        if name not in _UNUSED:
            ours[key if name != key and (name in state or name in ours) else name] = value
    return ours


def picked_frames(length: int, segments: int) -> NDArray[np.int64]:
    """Return (segments * FRAMES,) indices into a window of `length` frames: the middle FRAMES frames of every segment.

    Half positions round to the earlier frame; segments shorter than FRAMES use their neighbours' frames, or repeat the
    first and last of the window.
    """
    starts = ((2 * np.arange(segments) + 1) * length - FRAMES * segments) // (2 * segments)
    return (starts[:, None] + np.arange(FRAMES)).clip(0, length - 1).reshape(-1)


class SegmentDifference(nn.Module):
    """Excite channels by the change from segment to segment: (N * S, C, H, W) -> the same shape.

    Features of C / 16 channels (`conv1`) are compared with those of the next and of the previous segment, after
    alignment by a channel-wise convolution (`conv2`). The sum of the difference at three scales becomes, through
    `conv3` and a sigmoid, a gate for every cell; the mean of both gates weights the addition to the input. The first
    segment has no previous one and the last no next: there the difference is zero.
    """

    def __init__(self, channels: int, segments: int) -> None:
        super().__init__()
        self.segments = segments
        narrow = channels // _REDUCTION
        self.conv1, self.bn1 = nn.Conv2d(channels, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow, bias=False)
        self.conv3, self.bn3 = nn.Conv2d(narrow, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv3_smallscale2 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False)
        self.bn3_smallscale2 = nn.BatchNorm2d(narrow)
        self.conv3_smallscale4 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False)
        self.bn3_smallscale4 = nn.BatchNorm2d(narrow)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        reduced = self.bn1(self.conv1(x))
        aligned = _by_segments(self.conv2(reduced), self.segments)
        reduced = _by_segments(reduced, self.segments)
        to_next = F.pad(aligned[:, 1:] - reduced[:, :-1], (0,) * 6 + (0, 1))
        to_previous = F.pad(aligned[:, :-1] - reduced[:, 1:], (0,) * 6 + (1, 0))
        forwards, backwards = self.gate(torch.cat([to_next, to_previous]).flatten(0, 1)).chunk(2)
        return x + x * ((forwards + backwards) / 2)

    def gate(self, difference: Tensor) -> Tensor:
        """Map (M, C / 16, H, W) -> (M, C, H, W) in [-1/2, 1/2]."""
        halved = self.bn3_smallscale2(self.conv3_smallscale2(_halve(difference)))
        whole = self.bn3_smallscale4(self.conv3_smallscale4(difference))
        scales = (difference + _enlarge(halved, difference) + whole) / 3
        return torch.sigmoid(self.bn3(self.conv3(scales))) - 0.5


class SegmentMix(nn.Module):
    """Replace each channel by a weighted sum over the previous, this and the next segment: (N * S, C, H, W) -> same."""

    def __init__(self, channels: int, segments: int) -> None:
        super().__init__()
        self.segments = segments
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; beyond the first and the last segment there are zeros."""
        padded = F.pad(_by_segments(x, self.segments), (0,) * 6 + (1, 1))
        previous, this, following = self.conv.weight[:, 0, :, None, None].unbind(1)
        mixed = padded[:, :-2] * previous + padded[:, 1:-1] * this + padded[:, 2:] * following
        return mixed.flatten(0, 1)


class Bottleneck(nn.Module):
    """ResNet block: (N * S, C, H, W) -> (N * S, 4 * width, ceil(H / stride), ceil(W / stride)).

    With `segments`, `SegmentDifference` and `SegmentMix` precede its 3 x 3 convolution.
    """

    def __init__(self, channels: int, width: int, stride: int = 1, segments: int | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width)
        self.mse = SegmentDifference(width, segments) if segments else nn.Identity()
        self.shift = SegmentMix(width, segments) if segments else nn.Identity()
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        # A checkpoint overwrites it; with random weights, the sum over all blocks keeps the scale of one.
        nn.init.constant_(self.bn3.weight, _BRANCH)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        branch = self.shift(self.mse(F.relu(self.bn1(self.conv1(x)))))
        branch = F.relu(self.bn2(self.conv2(branch)))
        return F.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


class TDN(Backbone):
    """TDN up to its average pool, with the published classifier.

    `depth` is a key of `DEPTHS`, `segments` of `PICTURE_SHARE`. `feature_map` returns (N, 2048, S, h, w); `forward` its
    mean, (N, 2048); `classify` the class scores, which are the same averaged over segments before or after the last
    layer.
    """

    stream = "rgb"
    dim = 2048
    size = FrameSize(short_side=256, enlarge=True)
    crop = CROP

    def __init__(self, depth: str, segments: int, classes: int = _CLASSES) -> None:
        super().__init__()
        self.segments = segments
        self.about = describe(self.stream, f"{depth}-{segments}")
        self.span = self.about.span
        self.identity: dict[str, Any] = {
            "backbone": "tdn",
            "variant": f"{depth}-{segments}",
            "stream": self.stream,
            "preprocessing": self.about.to_json(),
        }
        blocks = DEPTHS[depth]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64)
        differences = 3 * (FRAMES - 1)
        self.conv1_5 = nn.Sequential(nn.Conv2d(differences, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.resnext_layer1 = _stage(64, 64, blocks[0])
        self.layer1_bak = _stage(64, 64, blocks[0])
        self.layer2_bak = _stage(256, 128, blocks[1], 2, segments)
        self.layer3_bak = _stage(512, 256, blocks[2], 2, segments)
        self.layer4_bak = _stage(1024, 512, blocks[3], 2, segments)
        self.new_fc = nn.Linear(self.dim, classes)

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, L, H, W, 3) uint8 RGB -> (N, 3, 5 * S, 224, 224): the frames used of the window, normalized.

        The centre of the picture is cut out; sides under 224 pixels are not cropped.
        """
        top, left = (max(round((length - CROP) / 2), 0) for length in frames.shape[2:4])
        cut = frames[:, :, top : top + CROP, left : left + CROP]
        clips = cut[:, picked_frames(frames.shape[1], self.segments)]
        x = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).float().div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (MEAN, STD))
        return x.sub_(mean).div_(std)

    def stem(self, segments: Tensor) -> Tensor:
        """Map (M, 5, 3, H, W) frames of M segments -> (M, 256, ceil(H / 4), ceil(W / 4)), including the first stage.

        The picture is the middle frame. The four differences of neighbouring frames pass through their own layers, at
        half the size, and are added to the picture twice: before the first stage and after it.
        """
        moved = (segments[:, 1:] - segments[:, :-1]).flatten(1, 2)
        motion = F.max_pool2d(self.conv1_5(_halve(moved)), 3, 2, 1)
        picture = F.max_pool2d(F.relu(self.bn1(self.conv1(segments[:, FRAMES // 2]))), 3, 2, 1)
        picture = self.layer1_bak(self._add(picture, motion))
        return self._add(picture, self.resnext_layer1(motion))

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, 5 * S, H, W) preprocessed clips -> (N, 2048, S, h, w) before pooling: h = w = 7 for 224 pixels."""
        count, channels, _, height, width = clips.shape
        frames = clips.transpose(1, 2).reshape(count, self.segments, FRAMES, channels, height, width)
        x = self.stem(frames.flatten(0, 1))
        x = self.layer4_bak(self.layer3_bak(self.layer2_bak(x)))
        return _by_segments(x, self.segments).transpose(1, 2)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, 5 * S, H, W) preprocessed clips -> (N, 2048), the mean of the feature map."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, 5 * S, H, W) preprocessed clips -> (N, classes) logits, the mean over segments."""
        scores: Tensor = self.new_fc(self(clips))
        return scores

    def _add(self, picture: Tensor, motion: Tensor) -> Tensor:
        """Return the weighted sum of both (M, C, .., ..), of the size of `picture`."""
        share = PICTURE_SHARE[self.segments]
        return share * picture + (1 - share) * _enlarge(motion, picture)


def _stage(channels: int, width: int, blocks: int, stride: int = 1, segments: int | None = None) -> nn.Sequential:
    """Create `blocks` blocks, the first with `stride`."""
    later = (Bottleneck(4 * width, width, segments=segments) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(channels, width, stride, segments), *later)


def _by_segments(x: Tensor, segments: int) -> Tensor:
    """Reshape (N * S, C, H, W) -> (N, S, C, H, W)."""
    return x.reshape(-1, segments, *x.shape[1:])


def _halve(x: Tensor) -> Tensor:
    """Average (M, C, H, W) over 2 x 2 cells -> (M, C, H // 2, W // 2); a side of one cell is unchanged."""
    return F.avg_pool2d(x, [min(2, side) for side in x.shape[2:]])


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge (M, C, h, w) by nearest neighbour to the height and width of `like`."""
    return F.interpolate(x, like.shape[2:])


def _classes(state: State) -> int:
    """Return the number of classes of a checkpoint, from the first of the classifier's tensors present."""
    for key in ("new_fc.weight", "new_fc.bias"):
        if key in state and state[key].ndim:
            return len(state[key])
    return _CLASSES
