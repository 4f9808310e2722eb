"""ViViT-B/16x2 with factorized encoder: 32 frames, every second of 64 -> 768 numbers.

Arnab et al., "ViViT: A Video Vision Transformer" (ICCV 2021), model 2 (section 3.3): a clip is cut into tubelets of 2 x
16 x 16 (section 3.2), a spatial encoder of 12 layers summarizes those of one moment in its class token, and a temporal
encoder of 4 layers summarizes the 16 moments in its own. That last token, after its normalization, is the feature.
Module names are the keys of the checkpoints published by github.com/alibaba-mmai-research/TAdaConv, without
`backbone.`, as are details that the paper leaves open: layers normalize before (epsilon 1e-6), and moments have
position embeddings too.

The shape of a checkpoint's position embeddings determines the crop and the number of frames: 224 pixels and 32 frames
here, 320 pixels for EPIC-KITCHENS, whose two classifiers (verbs, nouns) are kept. For clips of another size or length
(smaller pictures given to `preprocess`), the embeddings are interpolated linearly over the grid of patches and over
time, as in the publishers' code; unlike there, pictures need not be square.

Two deviations. The publishers scale the shorter side to the crop for their tests and train on crops out of 256 to 320
pixels; here it is 256, as for the other backbones, so that all share one pass over the video. Their networks use 30
frames per second; here the rate is a setting of the extraction.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wtal.errors import WeightsError
from wtal.extractors.backbone import Backbone, Description, Pixels, WeightsSource
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.weights import Weights, load_strict, load_weights, random_seed, randomise
from wtal.extractors.weights.checkpoint import State

STREAMS = ("rgb",)
FLOW = ""
STRIDE = 16
VARIANTS = ("b16x2",)

WEIGHTS = {
    "vivit_k400": Weights(
        stream="rgb",
        variant="b16x2",
        url="https://drive.google.com/file/d/1xD4uij9DmZojnl1xuWBa-gwm5hUZxDc7/view",
        file="vivit_fac_enc_b16x2_k400_32x224x224_7935_public.pyth",
        by_hand=True,
        unchecked="no hash is published",
        licence="not stated with the weights",
        source="https://github.com/alibaba-mmai-research/TAdaConv/blob/main/MODEL_ZOO.md",
        trained_on="ImageNet-21k, then Kinetics-400",
        layout="TAdaConv",
        accuracy={"Kinetics-400 top-1": 79.4, "Kinetics-400 top-5": 94.0},
    ),
    "vivit_epic": Weights(
        stream="rgb",
        variant="b16x2",
        url="https://drive.google.com/file/d/1ELvwZYeqdsPmDcX1v7_RbFqbQnvHt9sB/view",
        file="vivit_fac_enc_b16x2_k700_epic_32x320x320.pyth",
        by_hand=True,
        unchecked="no hash is published",
        licence="not stated with the weights",
        source="https://github.com/alibaba-mmai-research/TAdaConv/blob/main/MODEL_ZOO.md",
        trained_on="Kinetics-700, then EPIC-KITCHENS-100 at 320 pixels",
        layout="TAdaConv",
        accuracy={
            "EPIC-KITCHENS-100 action top-1": 46.3,
            "EPIC-KITCHENS-100 verb top-1": 67.4,
            "EPIC-KITCHENS-100 noun top-1": 58.9,
        },
    ),
}

TUBELET, PATCH = 2, 16
"""Frames and pixels of a tubelet: the "16x2" of the name."""
FRAME_STEP = 2
"""Step between the frames used: every second one of the window."""
MEAN, STD = 0.45, 0.225

_DIM, _HEADS, _HIDDEN = 768, 12, 3072
_EPSILON = 1e-6
_SIDE, _MOMENTS = 14, 16
_SHORT_SIDE = 256
_CLASSIFIERS = ("linear", "linear1", "linear2")
_CLASSES = 400


def create(stream: str, weights: WeightsSource = None, variant: str = "") -> "ViViT":
    """Create ViViT for `stream` "rgb"; `weights` as in `wtal.extractors.create_backbone`.

    Raises:
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    if (seed := random_seed(weights)) is not None:
        model = ViViT({"linear": _CLASSES})
        model.identity["weights"] = randomise(model, seed)
        return model
    state, identity = load_weights(weights, WEIGHTS, stream, variant=variant or VARIANTS[0])
    model = ViViT(_classifiers(state), _side(state), _moments(state))
    load_strict(model, state, "vivit weights")
    model.identity["weights"] = identity
    return model


def describe(stream: str, variant: str = "", side: int = _SIDE, moments: int = _MOMENTS) -> Description:
    """Describe the input of ViViT with position embeddings for `side` x `side` patches and `moments` tubelets."""
    crop = side * PATCH
    return Description(
        dim=_DIM,
        span=moments * TUBELET * FRAME_STEP,
        frames=moments * TUBELET,
        step=FRAME_STEP,
        size=FrameSize(short_side=max(_SHORT_SIDE, crop), enlarge=True),
        crop=crop,
        side=crop,
        pixels=Pixels((MEAN,) * 3, (STD,) * 3),
        tap="temporal class token after norm_out",
    )


def stretch(embeddings: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Interpolate (1, 1 + cells of `old`, D) -> (1, 1 + cells of `new`, D), except for the class token's own.

    Grids have one axis (time) or two (rows and columns); the centres of cells are aligned.
    """
    if old == new:
        return embeddings
    token, cells = embeddings[:, :1], embeddings[:, 1:]
    grid = cells.transpose(1, 2).reshape(1, -1, *old)
    grid = F.interpolate(grid, new, mode="linear" if len(new) == 1 else "bilinear", align_corners=False)
    return torch.cat((token, grid.flatten(2).transpose(1, 2)), dim=1)


class TubeletEmbedding(nn.Module):
    """Linear map of each tubelet (section 3.2): (N, 3, L, H, W) -> (N, D, ceil(L / 2), H // 16, W // 16).

    An odd last frame is repeated, so that a clip of a single frame is a tubelet.
    """

    def __init__(self) -> None:
        super().__init__()
        shape = (TUBELET, PATCH, PATCH)
        self.conv1 = nn.Conv3d(3, _DIM, shape, shape)

    def forward(self, clips: Tensor) -> Tensor:
        """Apply the map."""
        if clips.shape[2] % TUBELET:
            clips = torch.cat((clips, clips[:, :, -1:]), dim=2)
        tubelets: Tensor = self.conv1(clips)
        return tubelets


class SelfAttention(nn.Module):
    """Self-attention of 12 heads: (N, tokens, D) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(_DIM, 3 * _DIM)
        self.proj = nn.Linear(_DIM, _DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention; scores are divided by the root of a head's width."""
        queries, keys, values = self.to_qkv(x).reshape(*x.shape[:2], 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(queries, keys, values)
        mixed: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """Two linear maps around GELU: (N, tokens, D) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        # The third position is the dropout of training; it preserves the published number of the second map.
        self.net = nn.Sequential(nn.Linear(_DIM, _HIDDEN), nn.GELU(), nn.Identity(), nn.Linear(_HIDDEN, _DIM))

    def forward(self, x: Tensor) -> Tensor:
        """Apply both maps."""
        mapped: Tensor = self.net(x)
        return mapped


class Layer(nn.Module):
    """Transformer layer that normalizes before attention and before the maps (equations 4 and 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_DIM, eps=_EPSILON)
        self.attn = SelfAttention()
        self.norm_ffn = nn.LayerNorm(_DIM, eps=_EPSILON)
        self.ffn = FeedForward()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, D) -> the same."""
        x = x + self.attn(self.norm(x))
        mapped: Tensor = self.ffn(self.norm_ffn(x))
        return x + mapped


class ViViT(Backbone):
    """ViViT with factorized encoder up to its temporal class token, with the published classifiers.

    `classifiers` (name -> number of classes) may be empty. The position embeddings are for `side` (patches) and
    `moments` (tubelets in time); `crop`, `span` and `size` follow from them.
    """

    stream = "rgb"
    dim = _DIM
    span = _MOMENTS * TUBELET * FRAME_STEP
    size = FrameSize(short_side=_SHORT_SIDE, enlarge=True)
    crop = _SIDE * PATCH

    def __init__(
        self,
        classifiers: Mapping[str, int],
        side: int = _SIDE,
        moments: int = _MOMENTS,
        depth: int = 12,
        temporal_depth: int = 4,
    ) -> None:
        super().__init__()
        self.side, self.moments = side, moments
        self.about = describe(self.stream, VARIANTS[0], side, moments)
        self.span, self.crop, self.size = self.about.span, self.about.crop, self.about.size
        self.identity: dict[str, Any] = {
            "backbone": "vivit",
            "variant": VARIANTS[0],
            "preprocessing": self.about.to_json(),
        }
        self.pos_embd = nn.Parameter(torch.zeros(1, 1 + side * side, _DIM))
        self.temp_embd = nn.Parameter(torch.zeros(1, 1 + moments, _DIM))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, _DIM))
        self.cls_token_out = nn.Parameter(torch.zeros(1, 1, _DIM))
        self.stem = TubeletEmbedding()
        self.layers = nn.Sequential(*(Layer() for _ in range(depth)))
        self.norm = nn.LayerNorm(_DIM, eps=_EPSILON)
        self.layers_temporal = nn.Sequential(*(Layer() for _ in range(temporal_depth)))
        self.norm_out = nn.LayerNorm(_DIM, eps=_EPSILON)
        self.head = nn.ModuleDict({name: nn.Linear(_DIM, classes) for name, classes in classifiers.items()})

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, span, H, W, 3) uint8 RGB -> (N, 3, span / 2, 224, 224) float32, minus the mean, in deviations.

        Every second frame, from the first on, and the centre of the picture. Sides under 224 pixels are cropped to
        whole patches; those under 16 pixels are padded with their border to 16.
        """
        clips = frames[:, ::FRAME_STEP]
        for axis in (2, 3):
            clips = _centre(clips, axis, self.crop)
        x = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).float()
        return x.div_(255).sub_(MEAN).div_(STD)

    def moments_of(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, t, 768): the spatial encoder's class token of each moment."""
        tubelets = self.stem(clips)
        rows, columns = tubelets.shape[3:]
        patches = tubelets.permute(0, 2, 3, 4, 1).flatten(2, 3)
        tokens = _behind(self.cls_token, patches.flatten(0, 1))
        tokens = tokens + stretch(self.pos_embd, (self.side, self.side), (rows, columns))
        class_tokens: Tensor = self.norm(self.layers(tokens)[:, 0])
        return class_tokens.reshape(*patches.shape[:2], -1)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 768, 1): the class token is one cell for the whole clip.

        If the spatial encoder runs in less than float32, the temporal one, at a hundredth of its cost, does not.
        """
        moments = self.moments_of(clips).float()
        with torch.autocast(clips.device.type, enabled=False):
            tokens = _behind(self.cls_token_out, moments)
            tokens = tokens + stretch(self.temp_embd, (self.moments,), (moments.shape[1],))
            feature: Tensor = self.norm_out(self.layers_temporal(tokens)[:, 0])
        return feature[..., None]

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, 768)."""
        return self.feature_map(clips)[..., 0]

    def classify(self, clips: Tensor) -> Tensor:
        """Map (N, 3, L, H, W) preprocessed clips -> (N, classes) logits; several classifiers are concatenated.

        Raises:
            WeightsError: when the weights include no classifier.
        """
        if not self.head:
            raise WeightsError(
                "these vivit weights have no classifier (head.linear), only features; pass weights with one"
            )
        feature = self(clips)
        return torch.cat([linear(feature) for linear in self.head.values()], dim=1)


def _behind(token: Tensor, others: Tensor) -> Tensor:
    """Prepend (1, 1, D) to (N, tokens, D) -> (N, 1 + tokens, D)."""
    return torch.cat((token.expand(others.shape[0], -1, -1), others), dim=1)


def _centre(frames: NDArray[Any], axis: int, crop: int) -> NDArray[Any]:
    """Return the middle `crop` pixels along `axis`; if there are fewer, the whole patches that fit, at least one.

    Half margins are rounded to even, as in the other networks and in the centre one of ten crops.
    """
    pixels = frames.shape[axis]
    if pixels < PATCH:
        around = [(0, 0)] * frames.ndim
        around[axis] = ((PATCH - pixels) // 2, (PATCH - pixels + 1) // 2)
        return np.pad(frames, around, mode="edge")
    length = min(crop, pixels - pixels % PATCH)
    first = round((pixels - length) / 2)
    return frames[(slice(None),) * axis + (slice(first, first + length),)]


def _classifiers(state: State) -> dict[str, int]:
    """Map name -> number of classes of the classifiers in `state`; other keys under `head.` are refused later."""
    classes = {}
    for name in _CLASSIFIERS:
        tensors = [state[key] for key in (f"head.{name}.bias", f"head.{name}.weight") if key in state]
        if tensors:
            classes[name] = len(tensors[0]) if tensors[0].ndim else _CLASSES
    return classes


def _side(state: State) -> int:
    """Return the patches along a side, from the position embeddings in `state`; that of 224 pixels if not square."""
    cells = _cells(state, "pos_embd")
    side = isqrt(cells)
    return side if side and side * side == cells else _SIDE


def _moments(state: State) -> int:
    """Return the tubelets in time, from the position embeddings in `state`; that of 32 frames if there are none."""
    return _cells(state, "temp_embd") or _MOMENTS


def _cells(state: State, key: str) -> int:
    """Count position embeddings under `key` besides the class token's; 0 if missing or of another shape."""
    embeddings = state.get(key)
    if embeddings is None or embeddings.ndim != 3 or embeddings.shape[::2] != (1, _DIM):
        return 0
    return max(embeddings.shape[1] - 1, 0)
