"""The size that frames are scaled to before flow and clips."""

from dataclasses import dataclass

import cv2
import numpy as np

from wtal.extractors.decoding.reader import Image


@dataclass(frozen=True, slots=True)
class FrameSize:
    """A rule for scaling frames before flow and clips: the shorter side to `short_side` pixels, aspect kept.

    With `enlarge` False smaller frames stay as they are.
    """

    short_side: int
    enlarge: bool


def scaled_size(width: int, height: int, size: FrameSize) -> tuple[int, int]:
    """(width, height) of a frame in pixels -> the (width, height) that `size` asks for; no side below one pixel."""
    short = min(width, height)
    if short == size.short_side or (short < size.short_side and not size.enlarge):
        return width, height
    return _proportional(width, short, size.short_side), _proportional(height, short, size.short_side)


def scale(image: Image, target: tuple[int, int]) -> Image:
    """(H, W, 3) uint8 -> (H', W', 3) uint8 where `target` is (W', H'): area averages to shrink, linear to enlarge."""
    height, width = image.shape[:2]
    if (width, height) == target:
        return image
    shrinking = target[0] * target[1] < width * height
    resized = cv2.resize(image, target, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _proportional(side: int, short: int, short_side: int) -> int:
    return max(1, (2 * side * short_side + short) // (2 * short))
