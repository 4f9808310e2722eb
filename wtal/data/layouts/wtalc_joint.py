"""W-TALC's joint features: one `.npy` of (T, D) arrays, rgb before flow, in the order of its annotation arrays.

The file is an object array of N arrays (T_i, D), or a plain array (N, T, D); the ids are those of `videoname.npy` in
the annotation folder. A row is 16 frames at 25 frames per second of THUMOS14 and ActivityNet 1.2, columns 0 to 1023 are
rgb and 1024 to 2047 flow. `extracted_fps.npy` beside the annotations says 10 and is to be ignored, as its author says.
Source: https://github.com/sujoyp/wtalc-pytorch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.formats.wtalc import video_names
from wtal.data.object_arrays import read_array
from wtal.errors import FormatError

FPS, STRIDE = "25", "16"
"""Of the published files: frames per second, frames of a row."""


def read(
    features: Path, annotations: Path, dims: Mapping[str, int]
) -> Iterator[tuple[str, dict[str, NDArray[np.float32]]]]:
    """(video, {stream: (T, D)}) for each video in the order of the file; without `dims` two halves, rgb and flow.

    Raises:
        FormatError: when a file is damaged, or the two do not fit each other or `dims`.
    """
    names, arrays = video_names(annotations), read_array(features)
    if len(arrays) != len(names):
        raise FormatError(f"{features} has {len(arrays)} videos, {annotations / 'videoname.npy'} names {len(names)}")
    for name, value in zip(names, arrays, strict=True):
        rows = _rows(value, f"{features}: {name}")
        yield name, _split(rows, dict(dims) or _halves(rows.shape[1], f"{features}: {name}"), f"{features}: {name}")


def _rows(value: Any, where: str) -> NDArray[np.float32]:
    rows = np.asarray(value)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise FormatError(f"{where}: wanted (T, D) numbers, got an array {rows.shape} of {rows.dtype}")
    return rows.astype(np.float32, copy=False)


def _halves(width: int, where: str) -> dict[str, int]:
    if width % 2:
        raise FormatError(f"{where}: {width} columns cannot be halved into rgb and flow; name them: --dims rgb={width}")
    return {"rgb": width // 2, "flow": width // 2}


def _split(rows: NDArray[np.float32], dims: Mapping[str, int], where: str) -> dict[str, NDArray[np.float32]]:
    if sum(dims.values()) != rows.shape[1]:
        asked = ", ".join(f"{name}={dim}" for name, dim in dims.items())
        raise FormatError(f"{where}: {rows.shape[1]} columns, and --dims {asked} are {sum(dims.values())}")
    ends = np.cumsum(list(dims.values()))[:-1]
    return dict(zip(dims, np.split(rows, ends, axis=1), strict=True))
