"""Pairs of pictures with a known displacement of every pixel: what optical flow is measured on.

A texture of several coarsenesses with edges in it is moved by a formula, four times as large as the pictures and
reduced to them; then each picture gets noise of its own and is rounded to whole grey levels. The displacement of a
pixel of the first picture is exact, also where the second one hides it or ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]

_FINE = 4
_AROUND = 48
_NOISE = 1.5


@dataclass(frozen=True)
class Motion:
    """How the background moves, and a disc before it: x' = centre + zoom * rotation * (x - centre) + shift, in pixels.

    `turn` in degrees; the disc, where there is one, is `disc` of the picture's height wide and moves by `disc_shift`.
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
"""Names of motions by a pixel or so end with it."""


def pairs(width: int, height: int, seed: int = 0) -> Iterator[tuple[str, Gray, Gray, Floats]]:
    """(name, first (H, W), second (H, W), displacement (H, W, 2) in pixels) of every motion."""
    for number, (name, motion) in enumerate(MOTIONS.items()):
        yield name, *pair(motion, width, height, 100 * seed + number)


def pair(motion: Motion, width: int, height: int, seed: int) -> tuple[Gray, Gray, Floats]:
    """First and second picture, and the displacement from one to the other."""
    rng = np.random.default_rng(seed)
    ground, disc = _texture(rng, width, height), _texture(rng, width, height)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    matrix = _matrix(motion, width, height)
    flow = np.stack([x, y], axis=2) @ (matrix[:, :2] - np.eye(2)).T + matrix[:, 2]
    flow[_inside_disc(x, y, motion, width, height)] = motion.disc_shift

    shift = np.array([[1, 0, motion.disc_shift[0]], [0, 1, motion.disc_shift[1]]])
    still = np.eye(2, 3)
    first = _picture(ground, disc, still, still, motion, width, height)
    second = _picture(ground, disc, matrix, shift, motion, width, height)
    return _photographed(first, rng), _photographed(second, rng), flow.astype(np.float32)


def endpoint_error(flow: Floats, truth: Floats) -> float:
    """(H, W, 2), (H, W, 2) -> mean length of the difference, in pixels."""
    return float(np.linalg.norm(flow - truth, axis=-1).mean())


def _matrix(motion: Motion, width: int, height: int) -> NDArray[np.float64]:
    """(2, 3): where the background's pixels go."""
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, motion.turn, motion.zoom), np.float64)
    matrix[:, 2] += motion.shift
    return matrix


def _inside_disc(x: NDArray[Any], y: NDArray[Any], motion: Motion, width: int, height: int) -> NDArray[np.bool_]:
    """Whether a point of the first picture lies on the disc."""
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
    """(H, W): both textures where they have moved to, the disc before the ground."""
    x, y = np.meshgrid((np.arange(_FINE * width) + 0.5) / _FINE - 0.5, (np.arange(_FINE * height) + 0.5) / _FINE - 0.5)
    fine = _read(ground, *_back(ground_moves, x, y))
    before = _back(disc_moves, x, y)
    inside = _inside_disc(*before, motion, width, height)
    fine[inside] = _read(disc, *before)[inside]
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _back(matrix: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where the points came from."""
    inverse = np.asarray(cv2.invertAffineTransform(matrix))
    return (
        inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2],
        inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2],
    )


def _read(texture: Floats, x: NDArray[Any], y: NDArray[Any]) -> Floats:
    """The texture at points of the picture."""
    columns, rows = (((points + 0.5 + _AROUND) * _FINE - 0.5).astype(np.float32) for points in (x, y))
    return np.asarray(cv2.remap(texture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.float32)


def _texture(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Noise of several coarsenesses in grey levels, and patches with sharp edges, wider than the picture."""
    size = (_FINE * (width + 2 * _AROUND), _FINE * (height + 2 * _AROUND))
    texture = np.full(size[::-1], 128, np.float32)
    for cell, contrast in ((64, 30), (16, 20), (4, 12)):
        coarse = rng.normal(0, contrast, (height // cell + 4, width // cell + 4)).astype(np.float32)
        texture += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        centre, axes = rng.uniform((0, 0), size), rng.uniform(4, 30, 2) * _FINE
        patch = np.zeros_like(texture)
        cv2.ellipse(patch, (centre.tolist(), axes.tolist(), rng.uniform(0, 180)), 1.0, cv2.FILLED)
        texture += np.float32(rng.normal(0, 25)) * patch
    return texture


def _photographed(picture: Floats, rng: np.random.Generator) -> Gray:
    return (picture + rng.normal(0, _NOISE, picture.shape)).round().clip(0, 255).astype(np.uint8)
