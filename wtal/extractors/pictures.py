"""Prepare pictures for image networks, from the frames of clips: resized, cropped, normalized."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wtal.extractors.backbone import Backbone, Pixels, ten_crops
from wtal.extractors.decoding.frame_size import FrameSize

SHORT_SIDE = 256
"""Shorter side of incoming frames in pixels."""


@dataclass(frozen=True)
class Pictures:
    """Preparation of pictures for a network, all in RGB.

    Resized to `resize` (the shorter side, or (height, width), in pixels; None: not at all), cropped to a centre square
    of `crop` pixels, x -> x * `factor` - `offset`, minus `mean`, divided by `std`. Half margins of the crop are rounded
    down, or, as in torchvision, `to_even`.
    """

    resize: int | tuple[int, int] | None
    crop: int
    mode: str
    factor: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    to_even: bool = False

    @property
    def whole(self) -> int:
        """Crop in pixels of frames whose shorter side is 256."""
        short = min(self.resize) if isinstance(self.resize, tuple) else self.resize or SHORT_SIDE
        return min(round(SHORT_SIDE * self.crop / short), SHORT_SIDE)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture before the crop; no side is shorter than the crop."""
        if isinstance(self.resize, tuple):
            return max(self.resize[0], self.crop), max(self.resize[1], self.crop)
        short = max(self.resize or min(height, width), self.crop)
        return short * height // min(height, width), short * width // min(height, width)

    @property
    def pixels(self) -> Pixels:
        """The same arithmetic on values from 0 to 1."""
        whole = 255 * self.factor
        return Pixels(tuple((self.offset + mean) / whole for mean in self.mean), tuple(std / whole for std in self.std))

    def resized(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (N, L, H, W, 3) -> (N, L, H', W', 3), the size before the crop."""
        size = (frames.shape[2], frames.shape[3])
        if (target := self.target(*size)) == size:
            return frames
        smooth = {} if self.mode == "nearest" else {"antialias": True}
        resized = np.empty((*frames.shape[:2], *target, 3), np.uint8)
        for clip, pictures in zip(resized, frames, strict=True):
            x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()
            x = F.interpolate(x, target, mode=self.mode, **smooth).round_().clamp_(0, 255)
            clip[:] = x.permute(0, 2, 3, 1).numpy()
        return resized

    def cut(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop (N, L, H', W', 3) -> (N, L, crop, crop, 3), the centre."""
        top, left = (self.rounded((length - self.crop) / 2) for length in pictures.shape[2:4])
        return pictures[:, :, top : top + self.crop, left : left + self.crop]

    def rounded(self, margin: float) -> int:
        """Round half a margin, 0 or more, to whole pixels."""
        return round(margin) if self.to_even else int(margin)

    def normalised(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Normalize (N, L, crop, crop, 3) uint8 -> (N, 3, L, crop, crop) float32."""
        x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 4, 1, 2, 3))).float()
        mean, std = (torch.tensor(values)[:, None, None, None] for values in (self.mean, self.std))
        return (x * self.factor - self.offset).sub_(mean).div_(std)


class PictureBackbone(Backbone):
    """A backbone that uses every `step`-th frame of a clip, prepared by its `pictures`.

    `crop` counts pixels of incoming frames, `pictures.crop` those that the network uses.
    """

    stream = "rgb"
    size = FrameSize(short_side=SHORT_SIDE, enlarge=True)
    step: int
    pictures: Pictures

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, span, H, W, 3) uint8 RGB -> (N, 3, frames, side, side) float32, normalized; for any H x W.

        Every `step`-th frame is used, centred in the window.
        """
        return self.pictures.normalised(self.pictures.cut(self.pictures.resized(self._seen(frames))))

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Tensor]:
        """Preprocess each of `ten_crops` of the resized pictures, otherwise like `preprocess`."""
        resized = self.pictures.resized(self._seen(frames))
        for view in ten_crops(resized, self.pictures.crop, is_flow=False, rounded=self.pictures.rounded):
            yield self.pictures.normalised(view)

    def _seen(self, frames: NDArray[Any]) -> NDArray[Any]:
        return frames[:, (self.step - 1) // 2 :: self.step]
