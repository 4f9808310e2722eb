"""Synthetic moving pictures: a panning textured background, a circling textured disc, and sensor noise."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

FPS = 25
_NOISE = 3.0


def moving_frames(count: int, width: int, height: int, seed: int = 0) -> Iterator[Image]:
    """Yield `count` frames (height, width, 3) uint8 RGB in which everything moves."""
    rng = np.random.default_rng(seed)
    background, disc = _texture(rng, width, height), _texture(rng, width, height)
    noise = rng.normal(0, _NOISE, (2 * height, 2 * width, 1)).astype(np.float32)
    for number in range(count):
        phase = 2 * np.pi * number / (3 * FPS)
        picture = _pan(background, 0.9 * number, 0.1 * height * np.sin(phase))
        mask = _disc(width, height, phase)
        picture[mask] = _pan(disc, -2.3 * number, 1.1 * number)[mask]
        down, right = rng.integers(height), rng.integers(width)
        picture += noise[down : down + height, right : right + width]
        yield picture.clip(0, 255).astype(np.uint8)


def write_h264(path: Path, frames: Iterable[Image], width: int, height: int) -> Path:
    """Write an MP4 of 25 frames per second with x264's defaults, B-frames included."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Noise (height, width, 3) of several scales around grey 128."""
    texture = np.full((height, width, 3), 128, np.float32)
    for cell, contrast in ((64, 40), (16, 25), (4, 15)):
        coarse = rng.normal(0, contrast, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return texture


def _pan(texture: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    """Move a texture by (x, y) pixels, wrapping around at the borders."""
    height, width = texture.shape[:2]
    shift = np.array([[1, 0, x % width], [0, 1, y % height]], np.float32)
    moved = cv2.warpAffine(texture, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(moved, np.float32)


def _disc(width: int, height: int, phase: float) -> NDArray[np.bool_]:
    """Mask (height, width) of the disc."""
    x, y = width / 2 + 0.25 * height * np.cos(phase), height / 2 + 0.25 * height * np.sin(phase)
    rows, columns = np.ogrid[:height, :width]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < (height / 6) ** 2)
