"""Clips to feature vectors: `Descriptor`, and the description of its input. Free of torch, whose import takes seconds.

`wtal.extractors.backbones` has the contract of a backbone's file, and creates backbones by name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.decoding.frame_size import FrameSize

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """Normalization of a picture for a network: (x - mean) / std, per colour in [0, 1], in RGB order.

    For flow: per component, in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """Input of a backbone, and the position of its feature in the network.

    `dim` numbers are computed from `frames` frames, every `step`-th of a window of `span`. Frames are scaled to `size`,
    then by the backbone to `resize` (the shorter side, or (height, width), in pixels; None: not again); a centre square
    of `side` pixels is cut out, which corresponds to `crop` pixels of the incoming frames (0 and 0: no crop). `pixels`
    is the normalization of their values, None if it is more complex; `colours` lists the channels in order. `tap` is
    the position of the feature, `note` any further remarks.
    """

    dim: int
    span: int
    frames: int
    step: int
    size: FrameSize
    crop: int
    side: int
    pixels: Pixels | None
    tap: str
    resize: int | tuple[int, int] | None = None
    colours: str = "RGB"
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types; part of a store's identity."""
        values = asdict(self)
        size, pixels = values.pop("size"), values.pop("pixels") or {"mean": (), "std": ()}
        entries = {**values, **size, "mean": list(pixels["mean"]), "std": list(pixels["std"])}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in entries.items()}

    def __str__(self) -> str:
        """Return one line, e.g. `1024 numbers from 16 frames; 256 px -> 224 x 224; RGB (x - 0.5) / 0.5; mean pool`."""
        parts = (
            f"{self.dim} numbers from {self.frames_in_words}",
            self.sides_in_words,
            self.values_in_words,
            self.tap,
            self.note,
        )
        return "; ".join(filter(None, parts))

    @property
    def frames_in_words(self) -> str:
        """Description of the frames, e.g. `32 frames, one in 2 of 64`."""
        step = f", one in {self.step}" if self.step > 1 else ""
        window = f" of {self.span}" if self.span != self.frames else ""
        return f"{self.frames} frames{step}{window}"

    @property
    def sides_in_words(self) -> str:
        """Sides from step to step, e.g. `256 px -> 128 x 171 -> 112 x 112`: the shorter one, or (height, width)."""
        sides = [f"{self.size.short_side} px" if self.size.enlarge else f"at most {self.size.short_side} px"]
        if self.resize:
            sides.append(str(self.resize) if isinstance(self.resize, int) else "{} x {}".format(*self.resize))
        if self.side:
            sides.append(f"{self.side} x {self.side}")
        return " -> ".join(sides)

    @property
    def values_in_words(self) -> str:
        """Channels and their normalization, e.g. `RGB (x - 0.45) / 0.225`."""
        if self.pixels is None:
            return self.colours
        return f"{self.colours} (x - {_alike(self.pixels.mean)}) / {_alike(self.pixels.std)}"


def _alike(values: tuple[float, ...]) -> str:
    """Format a single number if all are equal."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"[{', '.join(f'{value:g}' for value in values)}]"


WeightsSource = str | Path | Mapping[str, "Tensor"] | None


class Descriptor:
    """A mapping of clips of one stream to feature vectors; a `Backbone` is one that torch computes.

    Class attributes of a leaf: `stream` ("rgb" | "flow"), `dim` (D), `span` (L, frames of a clip), `size` (scaling of
    frames before `extract`), `crop` (pixels, side of the centre square cut out of them; 0 without a crop), `identity`
    (JSON: everything that can change its output, including weights), `about` (the same and more as text; None if
    unavailable).
    """

    stream: str
    dim: int
    span: int
    size: FrameSize
    crop: int = 0
    identity: dict[str, Any]
    about: Description | None = None
    side_by_side: bool = False
    """On a CPU: process batches of clips in parallel threads, rather than using threads within each operation."""
    by_torch: bool = False
    """Computed by torch, and derived from `Backbone`."""

    @property
    def is_network(self) -> bool:
        """True if it has parameters, and therefore a device."""
        return False

    def preprocess(self, frames: NDArray[Any]) -> Any:
        """Preprocess (N, L, H, W, 3) uint8 RGB or (N, L, H, W, 2) float32 pixels of flow -> (N, C, L, H', W')."""
        raise NotImplementedError

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Any]:
        """Preprocess each of `ten_crops` in place of the centre, otherwise like `preprocess`."""
        for view in ten_crops(frames, self.crop, self.stream == "flow"):
            yield self.preprocess(view)

    def features(self, clips: Any) -> NDArray[np.float32]:
        """Map (N, C, L, H, W) preprocessed clips -> (N, D)."""
        raise NotImplementedError

    def extract(self, frames: NDArray[Any], crops: int = 1) -> NDArray[np.float32]:
        """Map (N, L, H, W, 3) uint8 RGB or (N, L, H, W, 2) float32 flow -> (N, D).

        With 10 `crops`, return the mean over `ten_crops`, computed one after another.
        """
        if crops == 1:
            return self.features(self.preprocess(frames))
        views = [self.features(clips) for clips in self.preprocess_ten(frames)]
        return np.asarray(np.mean(views, axis=0), dtype=np.float32)

    def eval(self) -> Self:
        """Return itself; a network also leaves the mode of training."""
        return self


def ten_crops(
    frames: NDArray[Any], side: int, is_flow: bool, rounded: Callable[[float], int] = round
) -> Iterator[NDArray[Any]]:
    """Crop (N, L, H, W, C) -> ten (N, L, side, side, C): the corners and the centre, then their mirror images.

    Mirrored flow has its horizontal component negated. Sides shorter than `side` are not cropped. Half margins of the
    centre are `rounded`, by default to even.
    """
    height, width = frames.shape[2:4]
    below, beside = max(height - side, 0), max(width - side, 0)
    corners = [(0, 0), (0, beside), (below, 0), (below, beside), (rounded(below / 2), rounded(beside / 2))]
    for mirrored in (False, True):
        for top, left in corners:
            view = frames[:, :, top : top + side, left : left + side]
            if mirrored:
                view = view[:, :, :, ::-1]
                if is_flow:
                    view = view * np.array([-1, 1], dtype=frames.dtype)
            yield view


def centre_crop(frames: NDArray[Any], side: int) -> NDArray[Any]:
    """Crop (N, L, H, W, C) -> (N, L, side, side, C), a view: the centre one of `ten_crops`."""
    top, left = (max(round((length - side) / 2), 0) for length in frames.shape[2:4])
    return frames[:, :, top : top + side, left : left + side]
