"""Channel-separated networks (CSN) on RGB: 32 frames from a window of 64 -> 2048 numbers.

Tran, Wang, Torresani and Feiszli, "Video Classification with Channel-Separated Convolutional Networks" (ICCV 2019).
A residual network whose 3x3x3 convolutions operate on single channels (depthwise), so that channels interact only in
1x1x1 convolutions. In the interaction-reduced form (ir, paper, figure 2c), the middle of the bottleneck is only the
depthwise convolution; in the interaction-preserved form (ip, figure 2b), a 1x1x1 convolution precedes it.

`r101` is pytorchvideo's CSN-101 (interaction-reduced), `ir152` and `ip152` are the CSN-152 of the authors' VMZ, which
mmaction2 also trains and converts. The blocks are pytorchvideo's, and our weights use the keys of its `.pyth` files;
the 152 layers differ from those of `r101` in the epsilon of their batch normalization, 1e-3. The feature is the input
of the classifier, before dropout: the average of the last map.

The mean and deviation of the pixels belong to the weights: they are listed in `WEIGHTS`, and a file with a listed hash
is recognized under any name. For other weights, the layout decides: VMZ's and pytorchvideo's layouts use their own
values. mmaction2's layout covers two kinds that no tensor distinguishes: trained with ImageNet's values, the default of
its configurations, or with VMZ's. ImageNet's are assumed, with a warning; `vmz:PATH` and `imagenet:PATH` select one.
`identity` includes the values.

One deviation: if the last map is smaller than the (4, 7, 7) pool of `r101` (clips of under 25 frames or of under 193
pixels), the whole map is averaged, where the original fails.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from wtal.extractors.weights import (
    Weights,
    load_strict,
    load_weights,
    published_as,
    random_seed,
    randomise,
    share_variance,
)

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ("r101", "ir152", "ip152")

PYTORCHVIDEO = Pixels((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VMZ = Pixels((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))

_OPENMMLAB = "https://download.openmmlab.com/mmaction"
_MMACTION2 = "https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/csn"
_RELEASE = "https://github.com/bjuncek/VMZ/releases/download/test_models"
_VMZ = "https://github.com/facebookresearch/VMZ/blob/main/c2/tutorials/model_zoo.md"
_IG65M = "IG-65M, then Kinetics-400"
_SPORTS1M = "Sports-1M, then Kinetics-400"


def _of_mmaction2(
    variant: str, url: str, trained_on: str, top1: float, top5: float, pixels: Pixels = IMAGENET
) -> Weights:
    """Return a checkpoint of mmaction2; the end of its name is the start of its SHA-256.

    `pixels` are those of its configuration there, which its name may contradict.
    """
    return Weights(
        stream="rgb",
        variant=variant,
        url=f"{_OPENMMLAB}/{url}",
        licence="Apache-2.0",
        source=_MMACTION2,
        trained_on=trained_on,
        layout="mmaction2",
        accuracy={"Kinetics-400 val top-1": top1, "Kinetics-400 val top-5": top5},
        sha256=url.removesuffix(".pth").rpartition("-")[2],
        pixels=pixels,
    )


def _of_vmz(variant: str, file: str, trained_on: str, top1: float, top5: float) -> Weights:
    """Return a checkpoint of VMZ; its accuracy is that of the Caffe2 model it was converted from."""
    return Weights(
        stream="rgb",
        variant=variant,
        url=f"{_RELEASE}/{file}",
        licence="Apache-2.0",
        source=_VMZ,
        trained_on=trained_on,
        layout="vmz",
        accuracy={"Kinetics-400 val top-1": top1, "Kinetics-400 val top-5": top5},
        unchecked="no hash is published",
        pixels=VMZ,
    )


_IR = "ircsn_ig65m-pretrained-r152_8xb12-32x2x1-58e_kinetics400-rgb"
_IR_FROZEN = "ircsn_ig65m-pretrained-r152-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb"

WEIGHTS = {
    "csn_32x2_r101": Weights(
        stream="rgb",
        variant="r101",
        url="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/CSN_32x2_R101.pyth",
        licence="Apache-2.0",
        source="https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md",
        trained_on="Kinetics-400",
        layout="pytorchvideo",
        accuracy={"Kinetics-400 val top-1": 77.00, "Kinetics-400 val top-5": 92.90},
        unchecked="no hash is published",
        pixels=PYTORCHVIDEO,
    ),
    "ircsn_ig65m": _of_mmaction2(
        "ir152", f"v1.0/recognition/csn/{_IR}/{_IR}_20220811-c7a3cc5b.pth", _IG65M, 82.87, 95.90
    ),
    "ircsn_ig65m_bnfrozen": _of_mmaction2(
        "ir152", f"v1.0/recognition/csn/{_IR_FROZEN}/{_IR_FROZEN}_20220811-7d1dacde.pth", _IG65M, 82.84, 95.92
    ),
    "ircsn_k400": _of_mmaction2(
        "ir152",
        "recognition/csn/vmz/vmz_ircsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-5c933ae1.pth",
        "Kinetics-400",
        76.53,
        92.28,
        VMZ,
    ),
    "vmz_ircsn_ig65m": _of_vmz("ir152", "irCSN_152_ft_kinetics_from_ig65m_f126851907.pth", _IG65M, 82.6, 95.3),
    "vmz_ircsn_sports1m": _of_vmz("ir152", "irCSN_152_ft_kinetics_from_Sports1M_f101599884.pth", _SPORTS1M, 78.2, 93.0),
    "ipcsn_ig65m": _of_mmaction2(
        "ip152",
        "recognition/csn/vmz/vmz_ipcsn_ig65m_pretrained_r152_32x2x1_58e_kinetics400_rgb_20210617-c3be9793.pth",
        _IG65M,
        82.68,
        95.69,
    ),
    "ipcsn_k400": _of_mmaction2(
        "ip152",
        "recognition/csn/vmz/vmz_ipcsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-d565828d.pth",
        "Kinetics-400",
        77.80,
        93.10,
        VMZ,
    ),
    "vmz_ipcsn_ig65m": _of_vmz("ip152", "ipCSN_152_ft_kinetics_from_ig65m_f133090949.pth", _IG65M, 82.5, 95.3),
    "vmz_ipcsn_sports1m": _of_vmz("ip152", "ipCSN_152_ft_kinetics_from_Sports1M_f111279053.pth", _SPORTS1M, 78.8, 93.5),
}

FRAMES = 32
FRAME_STEP = 2
"""Step between the frames used, in frames of the window."""
CROP = 224

_DEPTHS = {"r101": 101, "ir152": 152, "ip152": 152}
_CLASSES = 400
_CLASSIFIER_BIAS = "blocks.5.proj.bias"
_STAGES = 5
"""Number of blocks before the head: the stem and four residual stages."""
_R101_POOL = (4, 7, 7)
_VMZ_EPSILON = 1e-3


_CHOICES = {"pytorchvideo": PYTORCHVIDEO, "imagenet": IMAGENET, "vmz": VMZ}
_BLOCK, _OUR_BLOCK = re.compile(r"layer(\d)\.(\d+)\."), re.compile(r"blocks\.(\d)\.res_blocks\.(\d+)\.")
_OURS_OUTSIDE = ("blocks.0.conv.", "blocks.0.norm.", "blocks.5.proj.")
_OUTSIDE = {"mmaction2": ("conv1.conv.", "conv1.bn.", "cls_head.fc_cls."), "vmz": ("stem.0.", "stem.1.", "fc.")}
"""Key prefixes outside of the residual blocks: convolution and normalization of the stem, classifier."""
_MIDDLE = ("branch2.conv_b.", "branch2.norm_b.")
_WIDE_MIDDLE = ("branch2.conv_b.0.", "branch2.conv_b.1.", "branch2.conv_b.2.", "branch2.norm_b.")
_OURS_MIDDLE = {"ir152": _MIDDLE, "ip152": _WIDE_MIDDLE}
_THEIR_MIDDLE = {
    ("mmaction2", "ir152"): ("conv2.0.conv.", "conv2.0.bn."),
    ("mmaction2", "ip152"): ("conv2.0.conv.", "conv2.0.bn.", "conv2.1.conv.", "conv2.1.bn."),
    ("vmz", "ir152"): ("conv2.0.", "conv2.1."),
    ("vmz", "ip152"): ("conv2.0.0.", "conv2.0.1.", "conv2.0.2.", "conv2.1."),
}
"""Key prefixes of a block's middle: ip has a 1x1x1 convolution and its normalization before the depthwise one."""
_OURS_AROUND = {
    "conv1": ("branch2.conv_a.", "branch2.norm_a."),
    "conv3": ("branch2.conv_c.", "branch2.norm_c."),
    "downsample": ("branch1_conv.", "branch1_norm."),
}
_PARTS = {"mmaction2": ("conv", "bn"), "vmz": ("0", "1")}


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "CSN":
    """Create CSN `variant` (one of `VARIANTS`); `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        MissingExtraError: when pytorchvideo is not installed.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    variant = variant or VARIANTS[0]
    if (seed := random_seed(weights)) is not None:
        model = CSN(variant, describe(stream, variant).pixels or PYTORCHVIDEO)
        model.identity["weights"] = randomise(model, seed)
        share_variance(model, "norm_c.weight")
        return model
    pixels, weights = _chosen(weights)
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant)
    layout = layout_of(state)
    pixels = pixels or _pixels(layout, weights, stream, variant)
    state = {renamed(key, layout, variant): value for key, value in state.items()}
    bias = state.get(_CLASSIFIER_BIAS)
    model = CSN(variant, pixels, len(bias) if bias is not None and bias.ndim else _CLASSES)
    what = f"csn {variant} weights in the layout of {layout}"
    load_strict(model, state, what, lambda key: renamed(key, layout, variant, to_ours=False))
    model.identity["weights"] = identity
    return model


def layout_of(state: Mapping[str, Tensor]) -> str:
    """Return the layout of the keys: "mmaction2", "vmz", or "pytorchvideo", which is ours."""
    if any(key.startswith("blocks.") for key in state):
        return "pytorchvideo"
    for layout, starts in _OUTSIDE.items():
        if any(key.startswith(starts) for key in state):
            return layout
    return "pytorchvideo"


def renamed(key: str, layout: str, variant: str, to_ours: bool = True) -> str:
    """Map a key of a CSN-152 from a published layout to ours, or back; keys that the layout lacks are unchanged."""
    if layout not in _OUTSIDE or variant not in _OURS_MIDDLE:
        return key
    outside = dict(zip(_OUTSIDE[layout], _OURS_OUTSIDE, strict=True))
    inside = dict(zip(_THEIR_MIDDLE[layout, variant], _OURS_MIDDLE[variant], strict=True))
    for published, ours in _OURS_AROUND.items():
        inside |= {f"{published}.{part}.": start for part, start in zip(_PARTS[layout], ours, strict=True)}
    block, other = _BLOCK, "blocks.{}.res_blocks.{}."
    if not to_ours:
        outside, inside = _turned(outside), _turned(inside)
        block, other = _OUR_BLOCK, "layer{}.{}."
    if (match := block.match(key)) is None:
        return _with_other_start(key, outside)
    rest = key[match.end() :]
    return other.format(*match.groups()) + _with_other_start(rest, inside) if rest.startswith(tuple(inside)) else key


def describe(stream: str, variant: str = "") -> Description:
    """Describe the input of CSN; its pixels are those of the first published weights of `variant`."""
    variant = variant or VARIANTS[0]
    return Description(
        dim=CSN.dim,
        span=CSN.span,
        frames=FRAMES,
        step=FRAME_STEP,
        size=CSN.size,
        crop=CROP,
        side=CROP,
        pixels=next(entry.pixels for entry in WEIGHTS.values() if entry.variant == variant),
        tap="average pool, before dropout",
    )


class CSN(Backbone):
    """CSN up to its average pool, with the published classifier.

    `feature_map` returns (N, 2048, t, h, w); `forward` its mean, (N, 2048); `classify` class scores.
    """

    stream = "rgb"
    dim = 2048
    span = FRAMES * FRAME_STEP
    size = FrameSize(short_side=256, enlarge=True)
    crop = CROP

    def __init__(self, variant: str, pixels: Pixels, classes: int = _CLASSES) -> None:
        super().__init__()
        self.variant, self.pixels = variant, pixels
        self.about = replace(describe(self.stream, variant), pixels=pixels)
        ready()
        library = require("pytorchvideo.models.csn", EXTRA)
        bottleneck = require("pytorchvideo.models.resnet", EXTRA).create_bottleneck_block
        self.identity: dict[str, Any] = {
            "backbone": "csn",
            "variant": variant,
            "stream": self.stream,
            "preprocessing": self.about.to_json(),
            "library": f"pytorchvideo {version('pytorchvideo')}",
        }
        self.blocks: nn.ModuleList = library.create_csn(
            model_depth=_DEPTHS[variant],
            model_num_class=classes,
            stem_pool=nn.MaxPool3d,
            bottleneck=_interaction_preserved(bottleneck) if variant == "ip152" else bottleneck,
            head_pool_kernel_size=_R101_POOL,
        ).blocks
        if variant != "r101":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eps = _VMZ_EPSILON

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, 64, H, W, 3) uint8 RGB -> (N, 3, 32, 224, 224): every second frame, (x / 255 - mean) / std.

        The centre of the picture is cut out; sides under 224 pixels are not cropped.
        """
        clips = centre_crop(frames[:, ::FRAME_STEP], CROP)
        x = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).float()
        mean, std = (torch.tensor(values).reshape(3, 1, 1, 1) for values in (self.pixels.mean, self.pixels.std))
        return x.div_(255).sub_(mean).div_(std)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2048, t, h, w) before the last averaging.

        For 32 x 224 x 224, t x h x w is 4 x 7 x 7; 1 x 1 x 1 for `r101`, which pools earlier.
        """
        x = clips
        for stage in self.blocks[:_STAGES]:
            x = stage(x)
        if self.variant == "r101":
            x = F.avg_pool3d(x, [min(sides) for sides in zip(x.shape[2:], _R101_POOL, strict=True)], stride=1)
        return x

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 2048), the mean of the feature map."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, classes) logits."""
        head: Any = self.blocks[-1]
        logits: Tensor = head.proj(self(clips))
        return logits


def _interaction_preserved(create_bottleneck: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the maker of a bottleneck to insert a 1x1x1 convolution and its normalization before the depthwise one."""

    def create_wide(**config: Any) -> Any:
        block, width = create_bottleneck(**config), config["dim_inner"]
        block.conv_b = nn.Sequential(nn.Conv3d(width, width, 1, bias=False), nn.BatchNorm3d(width), block.conv_b)
        return block

    return create_wide


def _turned(starts: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in starts.items()}


def _with_other_start(key: str, starts: Mapping[str, str]) -> str:
    for old, new in starts.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _chosen(weights: WeightsSource) -> tuple[Pixels | None, WeightsSource]:
    """Split `vmz:PATH` -> VMZ's values and PATH; other weights are unchanged."""
    choice, colon, path = weights.partition(":") if isinstance(weights, str) else ("", "", "")
    return (_CHOICES[choice], path) if colon and choice in _CHOICES else (None, weights)


def _pixels(layout: str, weights: WeightsSource, stream: str, variant: str) -> Pixels:
    """Return the pixel values that the weights were trained with, from the entry of `WEIGHTS` or by their layout."""
    if (entry := published_as(weights, WEIGHTS, stream, variant)) and entry.pixels:
        return entry.pixels
    if layout == "mmaction2":
        warnings.warn(
            "csn weights in mmaction2's layout that match no published file: using ImageNet's pixel values; pass "
            "imagenet:PATH or vmz:PATH to choose explicitly",
            stacklevel=3,
        )
    return {"mmaction2": IMAGENET, "vmz": VMZ}.get(layout, PYTORCHVIDEO)
