"""Pairs of pictures with a known displacement of every pixel, to measure optical flow.

Each motion is rendered with each texture at four times the size and reduced, once without noise and once with
independent noise per picture, in whole grey levels. The displacement of a pixel of the first picture is exact, even
where that pixel is hidden in the second picture or outside of it. The texture changes a method's error far more than
parameters do, so that no single texture can rank parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]

_FINE = 4
_AROUND = 48


@dataclass(frozen=True)
class Motion:
    """Motion of the background and of a disc in front: x' = centre + zoom * rotation * (x - centre) + shift, in pixels.

    `turn` is in degrees. The disc's diameter is `disc` times the picture's height; it moves by `disc_shift`.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    zoom: float = 1.0
    disc: float = 0.0
    disc_shift: tuple[float, float] = (0.0, 0.0)


MOTIONS = {
    "translation, small": Motion((0.7, -0.4)),
    "translation, medium": Motion((3.3, -1.6)),
    "translation, large": Motion((9.5, 5.2)),
    "rotation, small": Motion(turn=0.8),
    "rotation, large": Motion(turn=4.0),
    "zoom, small": Motion(zoom=1.015),
    "zoom, large": Motion(zoom=1.06),
    "occlusion, small": Motion((-0.8, 0.5), disc=0.45, disc_shift=(2.5, -1.2)),
    "occlusion, large": Motion((2.0, 1.0), disc=0.5, disc_shift=(-7.0, 3.5)),
    "all at once": Motion((1.8, -1.1), turn=1.5, zoom=0.98, disc=0.4, disc_shift=(5.5, 2.5)),
}

SMALL = "small"
"""Last word in the names of motions by about one pixel."""

NOISES = (0.0, 2.0)
"""Standard deviations of the noise, in grey levels."""


class Pair(NamedTuple):
    """Two pictures (H, W) and the displacement (H, W, 2) from the first to the second, in pixels, with their origin."""

    motion: str
    texture: str
    noise: float
    first: Gray
    second: Gray
    truth: Floats


def pairs(width: int, height: int, seed: int = 0, textures: Sequence[str] | None = None) -> Iterator[Pair]:
    """Yield every motion with every noise and each of `textures`; None means all textures."""
    for number, motion in enumerate(MOTIONS):
        for texture in textures or TEXTURES:
            for noise in NOISES:
                yield pair(motion, texture, noise, width, height, 100 * seed + number)


def sample(width: int, height: int, seed: int = 0) -> Iterator[Pair]:
    """Yield every motion once, with textures and noises in turn."""
    textures = [*TEXTURES]
    for number, motion in enumerate(MOTIONS):
        texture, noise = textures[number % len(textures)], NOISES[number % len(NOISES)]
        yield pair(motion, texture, noise, width, height, 100 * seed + number)


def pair(motion: str, texture: str, noise: float, width: int, height: int, seed: int) -> Pair:
    """Render one pair."""
    rng = np.random.default_rng((seed, [*TEXTURES].index(texture)))
    path, size = MOTIONS[motion], (_FINE * (width + 2 * _AROUND), _FINE * (height + 2 * _AROUND))
    ground, disc = (TEXTURES[texture](rng, size) for _ in range(2))
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    matrix = _matrix(path, width, height)
    flow = np.stack([x, y], axis=2) @ (matrix[:, :2] - np.eye(2)).T + matrix[:, 2]
    flow[_inside_disc(x, y, path, width, height)] = path.disc_shift

    shift = np.array([[1, 0, path.disc_shift[0]], [0, 1, path.disc_shift[1]]])
    still = np.eye(2, 3)
    first = _photographed(_picture(ground, disc, still, still, path, width, height), noise, rng)
    second = _photographed(_picture(ground, disc, matrix, shift, path, width, height), noise, rng)
    return Pair(motion, texture, noise, first, second, flow.astype(np.float32))


def endpoint_error(flow: Floats, truth: Floats) -> float:
    """Mean length of the difference of two flows (H, W, 2), in pixels."""
    return float(np.linalg.norm(flow - truth, axis=-1).mean())


def _matrix(motion: Motion, width: int, height: int) -> NDArray[np.float64]:
    """Affine matrix (2, 3) of the background's motion."""
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, motion.turn, motion.zoom), np.float64)
    matrix[:, 2] += motion.shift
    return matrix


def _inside_disc(x: NDArray[Any], y: NDArray[Any], motion: Motion, width: int, height: int) -> NDArray[np.bool_]:
    """Mask of the points of the first picture that are on the disc."""
    return np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) < motion.disc * height / 2


def _picture(
    ground: Floats,
    disc: Floats,
    ground_moves: NDArray[np.float64],
    disc_moves: NDArray[np.float64],
    motion: Motion,
    width: int,
    height: int,
) -> Floats:
    """Picture (H, W) of both textures after their motion, the disc in front of the ground."""
    x, y = np.meshgrid((np.arange(_FINE * width) + 0.5) / _FINE - 0.5, (np.arange(_FINE * height) + 0.5) / _FINE - 0.5)
    fine = _read(ground, *_back(ground_moves, x, y))
    before = _back(disc_moves, x, y)
    inside = _inside_disc(*before, motion, width, height)
    fine[inside] = _read(disc, *before)[inside]
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _back(matrix: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions of the points before the motion."""
    inverse = np.asarray(cv2.invertAffineTransform(matrix))
    return (
        inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2],
        inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2],
    )


def _read(texture: Floats, x: NDArray[Any], y: NDArray[Any]) -> Floats:
    """Sample a texture at points of the picture."""
    columns, rows = (((points + 0.5 + _AROUND) * _FINE - 0.5).astype(np.float32) for points in (x, y))
    return np.asarray(cv2.remap(texture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.float32)


def _photographed(picture: Floats, noise: float, rng: np.random.Generator) -> Gray:
    return (picture + rng.normal(0, noise, picture.shape)).round().clip(0, 255).astype(np.uint8)


def _spots(rng: np.random.Generator, size: tuple[int, int], cells: Sequence[tuple[float, float]]) -> Floats:
    """Texture (H, W) in grey levels for a size (W, H): a sum of noises, given by width in pixels and contrast."""
    texture = np.full(size[::-1], 128, np.float32)
    for cell, contrast in cells:
        columns, rows = (int(side / (cell * _FINE)) + 2 for side in size)
        coarse = rng.normal(0, contrast, (rows, columns)).astype(np.float32)
        texture += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return texture


def _mixed(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Spots of several widths behind patches with sharp edges."""
    texture = _spots(rng, size, ((48, 30), (14, 20), (4, 12)))
    for _ in range(40):
        centre, axes = rng.uniform((0, 0), size), rng.uniform(4, 30, 2) * _FINE
        patch = np.zeros_like(texture)
        cv2.ellipse(patch, (centre.tolist(), axes.tolist(), rng.uniform(0, 180)), 1.0, cv2.FILLED)
        texture += np.float32(rng.normal(0, 25)) * patch
    return texture


def _natural(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Noise whose amplitudes fall with the frequency, as in photographs."""
    waves = np.fft.rfft2(rng.standard_normal(size[::-1]))
    frequency = np.hypot(np.fft.fftfreq(size[1])[:, None], np.fft.rfftfreq(size[0]))
    picture = np.fft.irfft2(waves / np.maximum(frequency, 1 / max(size)), size[::-1])
    return np.asarray(128 + 35 * (picture - picture.mean()) / picture.std(), np.float32)


def _blocks(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Squares of 12 pixels, each of a uniform grey: edges with nothing between them."""
    columns, rows = (side // (12 * _FINE) + 1 for side in size)
    greys = rng.uniform(0, 255, (rows, columns)).astype(np.float32)
    return np.kron(greys, np.ones((12 * _FINE, 12 * _FINE), np.float32))[: size[1], : size[0]]


TEXTURES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "mixed": _mixed,
    "fine": partial(_spots, cells=((2.5, 45),)),
    "coarse": partial(_spots, cells=((16, 50),)),
    "natural": _natural,
    "blocks": _blocks,
}
"""Name -> surface, larger than the picture."""
