"""Peers of `motion`: histograms of oriented gradients and of flow, one cell and one frame at a time.

The descriptors of H. Wang et al., "Dense Trajectories and Motion Boundary Descriptors for Action Recognition" (IJCV
2013), in straightforward numpy, in 5 x 5 fixed cells of a clip: HOG, HOF and MBH. Frames are reduced as in `motion`,
and there are as many histograms. The other steps of `motion` are omitted: shots, camera, position of the body,
interpolation between bins and cells, mirror. The numbers are therefore of the same kind, but not equal.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

GRAY_SIDE, FLOW_SIDE = 120, 60
"""Shorter sides in pixels of reduced frames and flow; the factor is a whole number."""

_CELLS = 5
_BINS = 8
_STILL = 0.2  # reduced pixels: slower flow is counted in a separate bin of HOF


def hog(clips: NDArray[np.uint8]) -> Floats:
    """HOG: (N, L, H, W, 3) uint8 RGB -> (N, 200)."""
    return np.stack([_descriptor([_gradient(_gray(frame)) for frame in clip]) for clip in clips])


def hof_and_mbh(clips: NDArray[np.float32]) -> Floats:
    """(N, L, H, W, 2) float32 flow in pixels -> (N, 625): HOF with a bin for still pixels, MBH along x and y."""
    return np.stack([_of_flow(clip) for clip in clips])


def opencv_hog(clips: NDArray[np.uint8]) -> Floats:
    """Mean over the frames of `cv2.HOGDescriptor` of whole frames: (N, L, H, W, 3) uint8 RGB -> (N, D)."""
    height, width = (side // 8 * 8 for side in _gray(clips[0, 0]).shape)
    descriptor = cv2.HOGDescriptor((width, height), (16, 16), (8, 8), (8, 8), 9)
    frames = [[descriptor.compute(_gray(frame)[:height, :width].astype(np.uint8)) for frame in clip] for clip in clips]
    return np.asarray(np.mean(np.array(frames), axis=1), np.float32)


def _of_flow(clip: NDArray[np.float32]) -> Floats:
    """HOF and MBH of one clip: (L, H, W, 2) flow -> (625,)."""
    flows = [_reduce(flow, FLOW_SIDE) * (FLOW_SIDE / min(flow.shape[:2])) for flow in clip]
    hof = _descriptor([(flow[..., 0], flow[..., 1]) for flow in flows], _STILL)
    mbh = [_descriptor([_gradient(flow[..., axis]) for flow in flows]) for axis in (0, 1)]
    return np.concatenate([hof, *mbh])


def _gray(frame: NDArray[np.uint8]) -> Floats:
    return np.asarray(_reduce(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)), GRAY_SIDE), np.float32)


def _reduce(image: NDArray[Any], side: int) -> NDArray[Any]:
    """Reduce (H, W) or (H, W, C) by means over squares to a shorter side of about `side`; never enlarge."""
    factor = max(1, round(min(image.shape[:2]) / side))
    height, width = (length // factor for length in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _gradient(image: Floats) -> tuple[Floats, Floats]:
    """Change of an image (H, W) along x and along y."""
    along_y, along_x = np.gradient(image)
    return np.asarray(along_x), np.asarray(along_y)


def _descriptor(vectors: Sequence[tuple[Floats, Floats]], still: float = 0.0) -> Floats:
    """Square roots of the histograms of all cells, which sum to one, from L pairs of (H, W) components."""
    cells = [
        np.sum([_histogram(x[rows, columns], y[rows, columns], still) for x, y in vectors], axis=0)
        for rows, columns in _cells(*vectors[0][0].shape)
    ]
    histogram = np.concatenate(cells)
    return np.sqrt(histogram / max(float(histogram.sum()), 1e-9)).astype(np.float32)


def _cells(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each cell."""
    for i in range(_CELLS):
        for j in range(_CELLS):
            rows = slice(i * height // _CELLS, (i + 1) * height // _CELLS)
            yield rows, slice(j * width // _CELLS, (j + 1) * width // _CELLS)


def _histogram(x: Floats, y: Floats, still: float) -> NDArray[np.float64]:
    """Sums of lengths by direction (8,) of (h, w) components; with `still` (9,), where the last counts shorter ones."""
    length = np.hypot(x, y)
    counted = np.where(length < still, 0, length)
    bins, _ = np.histogram(np.arctan2(y, x), _BINS, (-np.pi, np.pi), weights=counted)
    return np.append(bins, np.count_nonzero(length < still)) if still else bins
