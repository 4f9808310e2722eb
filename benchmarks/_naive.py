"""What `motion` is measured against: histograms of oriented gradients and flow, one cell and one frame at a time.

The descriptors of H. Wang et al., "Action Recognition with Improved Trajectories" (ICCV 2013), as one would first
write them down in numpy: HOG, HOF and MBH over 2 x 2 x 3 cells of a clip. They are the same kind of numbers as those
of `motion`, from the same pixels, not the same numbers.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_COLUMNS, _ROWS, _TIMES = 2, 2, 3
_BINS = 8
_STILL = 1.0  # pixels: slower flow goes into HOF's bin of its own


def hog(clips: NDArray[np.uint8]) -> Floats:
    """(N, L, H, W, 3) uint8 RGB -> (N, 96)."""
    return np.stack([_descriptor([_gradient(_gray(frame)) for frame in clip]) for clip in clips])


def hof_and_mbh(clips: NDArray[np.float32]) -> Floats:
    """(N, L, H, W, 2) float32 flow in pixels -> (N, 300): HOF with a bin for what stands still, MBH along x and y."""
    return np.stack([_motion(clip) for clip in clips])


def opencv_hog(clips: NDArray[np.uint8]) -> Floats:
    """(N, L, H, W, 3) uint8 RGB -> (N, D): `cv2.HOGDescriptor` over each whole frame, its mean over the frames."""
    height, width = clips.shape[2:4]
    window = (width // 8 * 8, height // 8 * 8)
    descriptor = cv2.HOGDescriptor(window, (16, 16), (8, 8), (8, 8), 9)
    corner = np.s_[: window[1], : window[0]]
    frames = [[descriptor.compute(_gray(frame[corner]).astype(np.uint8)) for frame in clip] for clip in clips]
    return np.mean(np.array(frames), axis=1)


def _motion(clip: NDArray[np.float32]) -> Floats:
    """(L, H, W, 2) flow -> (300,)."""
    hof = _descriptor([(frame[..., 0], frame[..., 1]) for frame in clip], _STILL)
    mbh = [_descriptor([_gradient(frame[..., axis]) for frame in clip]) for axis in (0, 1)]
    return np.concatenate([hof, *mbh])


def _gray(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.float32)


def _gradient(image: Floats) -> tuple[Floats, Floats]:
    """(H, W) -> its change along x and along y."""
    y, x = np.gradient(image)
    return x, y


def _descriptor(vectors: list[tuple[Floats, Floats]], still: float = 0.0) -> Floats:
    """L pairs of (H, W) components -> the histograms of all cells in a row, of length 1, then their square roots."""
    cells = []
    for part in np.array_split(np.arange(len(vectors)), _TIMES):
        for rows, columns in _cells(vectors[0][0].shape):
            bins = sum(_histogram(vectors[j][0][rows, columns], vectors[j][1][rows, columns], still) for j in part)
            cells.append(bins)
    histogram = np.concatenate([np.atleast_1d(cell) for cell in cells])
    root: Floats = np.sqrt(histogram / max(float(histogram.sum()), 1e-9))
    return root


def _cells(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    height, width = shape
    for i in range(_ROWS):
        for j in range(_COLUMNS):
            yield (
                slice(i * height // _ROWS, (i + 1) * height // _ROWS),
                slice(j * width // _COLUMNS, (j + 1) * width // _COLUMNS),
            )


def _histogram(x: Floats, y: Floats, still: float) -> Floats:
    """(h, w) components -> (8,) sums of lengths by direction, and (9,) with `still`: the count of what is shorter."""
    length = np.hypot(x, y)
    counted = np.where(length < still, 0, length)
    bins, _ = np.histogram(np.arctan2(y, x), _BINS, (-np.pi, np.pi), weights=counted)
    return np.append(bins, np.count_nonzero(length < still)) if still else bins
