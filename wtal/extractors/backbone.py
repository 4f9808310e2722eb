"""Clips to feature vectors: the contract of `backbones/`.

A leaf of `backbones/` holds `STREAMS` (the streams that it has), `FLOW` (its default flow method), `STRIDE` (frames
between its snippets by default), `WEIGHTS` (name -> `Weights`, empty where it has none to load) and
`create(stream, weights, variant) -> Backbone`. Where it comes in several sizes or forms, `VARIANTS` names them, the
default first: a user writes `csn:ir152`. `VARIANTS = ANY` leaves it to the leaf what stands behind the colon.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wtal.errors import UsageError
from wtal.extractors.scale import FrameSize as FrameSize
from wtal.registry import BACKBONES, suggest

ANY = None
"""`VARIANTS` of a leaf that takes whatever stands behind the colon."""


@dataclass(frozen=True)
class Pixels:
    """What networks are given of a picture's values: (x - mean) / std, of each colour from 0 to 1, in RGB order.

    Of flow: of its two components, in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


WeightsSource = str | Path | Mapping[str, Tensor] | None


class Backbone(nn.Module):
    """A network (or a fixed descriptor) that turns clips of one stream into feature vectors.

    Class attributes of a leaf: `stream` ("rgb" | "flow"), `dim` (D), `span` (L, frames of a clip), `size` (how frames
    are scaled before they come to `preprocess`), `crop` (pixels, side of the square that `preprocess` cuts out of the
    centre; 0 where it takes frames whole), `identity` (JSON: all that can change its numbers, weights included).
    """

    stream: str
    dim: int
    span: int
    size: FrameSize
    crop: int = 0
    identity: dict[str, Any]
    side_by_side: bool = False
    """On a CPU: batches of clips in threads side by side, rather than threads inside each operation on one batch."""

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """(N, L, H, W, 3) uint8 RGB, or (N, L, H, W, 2) float32 flow in pixels -> (N, C, L, H', W') float32."""
        raise NotImplementedError

    def feature_map(self, clips: Tensor) -> Tensor:
        """(N, C, L, H, W) preprocessed -> (N, D, ...): the features before the last averaging."""
        raise NotImplementedError

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, L, H, W) preprocessed -> (N, D)."""
        raise NotImplementedError

    def extract(self, frames: NDArray[Any], crops: int = 1) -> NDArray[np.float32]:
        """(N, L, H, W, 3) uint8 RGB or (N, L, H, W, 2) float32 flow -> (N, D), on the device of the parameters.

        With 10 `crops` it is the mean over `ten_crops`, one after the other.
        """
        if crops == 1:
            return self._extract(frames)
        views = [self._extract(view) for view in ten_crops(frames, self.crop, self.stream == "flow")]
        return np.asarray(np.mean(views, axis=0), dtype=np.float32)

    @torch.inference_mode()
    def _extract(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        features: Tensor = self(self.preprocess(frames).to(device))
        return features.float().cpu().numpy()


CROPS = (1, 10)
"""How many pictures are cut out of a frame: the centre, or four corners and the centre, and these mirrored."""


def ten_crops(frames: NDArray[Any], side: int, is_flow: bool) -> Iterator[NDArray[Any]]:
    """(N, L, H, W, C) -> ten (N, L, side, side, C): the corners and the centre, then each mirrored.

    A mirrored flow points the other way across. A frame's side under `side` stays whole.
    """
    height, width = frames.shape[2:4]
    below, beside = max(height - side, 0), max(width - side, 0)
    corners = [(0, 0), (0, beside), (below, 0), (below, beside), (round(below / 2), round(beside / 2))]
    for mirrored in (False, True):
        for top, left in corners:
            view = frames[:, :, top : top + side, left : left + side]
            if mirrored:
                view = view[:, :, :, ::-1]
                if is_flow:
                    view = view * np.array([-1, 1], dtype=frames.dtype)
            yield view


def create_backbone(name: str, stream: str, weights: WeightsSource = None) -> Backbone:
    """The backbone `name`, or `name:variant`, for one stream, in eval mode.

    `weights` is a path, a mapping of tensors, a name from the backbone's `WEIGHTS`, or `random:SEED` for dry runs
    and tests; None takes the first of `WEIGHTS`.

    Raises:
        UsageError: when there is no such backbone or variant, or it lacks the stream.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    module = BACKBONES.load(name)
    if stream not in module.STREAMS:
        raise UsageError(f"backbone {name} has no stream {stream!r}; {suggest(stream, module.STREAMS)}")
    backbone: Backbone = module.create(stream, weights, variant_of(name))
    return backbone.eval()


def full_name(name: str) -> str:
    """A backbone's name with its variant, where it has several: `csn` is `csn:r101`.

    Raises:
        UsageError: when there is no such backbone or variant.
    """
    variant = variant_of(name)
    return f"{name.partition(':')[0]}:{variant}" if variant else name


def variant_of(name: str) -> str:
    """What stands behind the colon of a backbone's name, or its leaf's first variant; empty where it has none.

    Raises:
        UsageError: when there is no such backbone or variant.
    """
    variants: tuple[str, ...] | None = getattr(BACKBONES.load(name), "VARIANTS", ())
    leaf, _, variant = name.partition(":")
    if variants is ANY or (not variant and not variants):
        return variant
    if variant and variant not in variants:
        raise UsageError(f"backbone {leaf} has no variant {variant!r}; {suggest(variant, variants)}")
    return variant or variants[0]
