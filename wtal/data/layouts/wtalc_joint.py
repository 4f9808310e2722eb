"""W-TALC's joint features: one `.npy` of (T, D) arrays, rgb before flow, in the order of its annotation arrays.

The file is an object array of N arrays (T_i, D), or a plain array (N, T, D); the ids are those of `videoname.npy` in
the annotation folder, or in the folder of the file. A row is 16 frames at 25 frames per second for THUMOS14 and
ActivityNet 1.2, columns 0 to 1023 are rgb and 1024 to 2047 flow. `extracted_fps.npy` among the annotations has the
value 10 and should be ignored, according to its author. Exports are `features.npy` and `videoname.npy`, for numpy 1.26
or newer.
Source: https://github.com/sujoyp/wtalc-pytorch.
"""

import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wtal.data.files import write_atomic
from wtal.data.formats.wtalc import video_names
from wtal.data.layout import ExportedVideo, Item, Streams, as_rows, halves, joined, split
from wtal.data.parsing.object_arrays import read_array, read_shape
from wtal.errors import FormatError

FPS, STRIDE = "25", "16"
BACKBONE = "i3d"

FEATURES = "features.npy"


def sniff(path: Path) -> bool:
    """Return True for a `.npy` file of objects or of three dimensions, or a folder with such a `features.npy`."""
    file = path / FEATURES if path.is_dir() else path
    if file.suffix.lower() != ".npy" or not file.is_file():
        return False
    try:
        shape, dtype = read_shape(file)
    except FormatError:
        return False
    return dtype.hasobject or len(shape) == 3


def read(path: Path, annotations: Path | None, dims: Mapping[str, int]) -> list[Item]:
    """List the videos in the order of the file; without `dims` the columns are two halves, rgb and flow.

    Raises:
        FormatError: when a file is damaged, or the two do not match.
    """
    file = path / FEATURES if path.is_dir() else path
    folder = annotations if annotations and annotations.is_dir() else file.parent
    if not (folder / "videoname.npy").is_file():
        raise FormatError(f"{folder} has no videoname.npy, which names the videos of {file}: --annotations FOLDER")
    names, arrays = video_names(folder), read_array(file)
    if arrays.ndim not in (1, 3) or len(arrays) != len(names):
        content = f"{len(arrays)} videos" if arrays.ndim in (1, 3) else f"the shape {arrays.shape}"
        raise FormatError(f"{file} has {content}, {folder / 'videoname.npy'} names {len(names)}")
    return [Item(name, (file,), partial(_load, arrays, i, dims, f"{file}: {name}")) for i, name in enumerate(names)]


def write(folder: Path, videos: Sequence[ExportedVideo]) -> None:
    """Write the joint file and the names of its videos, with one video in memory at a time."""
    names = np.array([video.name.encode() for video in videos])
    write_atomic(folder / "videoname.npy", partial(np.save, arr=names))
    rows = np.empty(len(videos), dtype=object)
    rows[:] = [_Rows(video) for video in videos]
    write_atomic(folder / FEATURES, partial(_dump, rows))


def _load(arrays: Any, index: int, dims: Mapping[str, int], where: str) -> Streams:
    rows = as_rows(arrays[index], where)
    return split(rows, dims or halves(rows.shape[1], where), where)


class _Rows:
    """The joined rows of a video, loaded on pickling; the pickle contains only the array."""

    def __init__(self, video: ExportedVideo) -> None:
        self.video = video

    def __reduce__(self) -> Any:
        return joined(self.video.load()).__reduce__()


def _dump(rows: Any, file: BinaryIO) -> None:
    header = {"descr": "|O", "fortran_order": False, "shape": rows.shape}
    np.lib.format.write_array_header_1_0(file, header)
    pickler = pickle.Pickler(file, protocol=3)
    pickler.fast = True  # no memo: it would keep every array
    pickler.dump(rows)
