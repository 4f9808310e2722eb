"""Scaling of frames before flow and clips."""

import time
from dataclasses import dataclass

import cv2
import numpy as np

from wtal.extractors.decoding.reader import Image

_LARGE = 1.75
"""Source pixels per target pixel, along a side, from which the fast method is faster."""


@dataclass(frozen=True, slots=True)
class FrameSize:
    """Rule for scaling frames before flow and clips: the shorter side to `short_side` pixels, aspect kept.

    With `enlarge` False, smaller frames are unchanged.
    """

    short_side: int
    enlarge: bool


def scaled_size(width: int, height: int, size: FrameSize) -> tuple[int, int]:
    """Map (width, height) of a frame in pixels -> (width, height) scaled by `size`; no side below one pixel."""
    short = min(width, height)
    if short == size.short_side or (short < size.short_side and not size.enlarge):
        return width, height
    return _proportional(width, short, size.short_side), _proportional(height, short, size.short_side)


def scale(image: Image, target: tuple[int, int]) -> Image:
    """Scale (H, W, 3) uint8 -> (H', W', 3) uint8, `target` being (W', H'): area averages or linear enlargement."""
    height, width = image.shape[:2]
    if (width, height) == target:
        return image
    shrinking = target[0] * target[1] < width * height
    resized = cv2.resize(image, target, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


class FrameScaler:
    """`scale`, switching to a faster method with the same values if large pictures take `patience` seconds.

    The fast method is compiled code (`area.py`), which takes half of the time, plus half of these seconds to load: they
    therefore include the time of past pictures and of those still expected. The first picture of each size is scaled
    with both methods, and if this build of OpenCV rounds differently, OpenCV stays in use.
    """

    def __init__(self, patience: float = 1.5) -> None:
        self._patience = patience
        self._spent = 0.0
        self._expected = 0
        self._is_quick = False
        self._same: dict[tuple[int, ...], bool] = {}

    def expect(self, count: int) -> None:
        """Set the number of pictures about to come."""
        self._expected = count

    def __call__(self, image: Image, target: tuple[int, int]) -> Image:
        """Scale (H, W, 3) uint8 -> (H', W', 3) uint8, `target` being (W', H')."""
        height, width = image.shape[:2]
        if min(width / target[0], height / target[1]) < _LARGE:
            return scale(image, target)
        return self._quickly(image, target) if self._is_quick else self._timed(image, target)

    def _timed(self, image: Image, target: tuple[int, int]) -> Image:
        start = time.thread_time()
        scaled = scale(image, target)
        seconds = time.thread_time() - start
        self._spent += seconds
        self._expected = max(0, self._expected - 1)
        self._is_quick = self._spent + self._expected * seconds >= self._patience
        return scaled

    def _quickly(self, image: Image, target: tuple[int, int]) -> Image:
        from wtal.extractors.decoding.area import area_average, is_averaged, same_as_opencv

        sizes = (*image.shape, *target)
        if sizes not in self._same:
            self._same[sizes] = is_averaged((sizes[1], sizes[0]), target) and same_as_opencv(image, target)
        return area_average(image, target) if self._same[sizes] else scale(image, target)


def _proportional(side: int, short: int, short_side: int) -> int:
    return max(1, (2 * side * short_side + short) // (2 * short))
