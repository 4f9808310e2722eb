"""One `.npy` file (T, D) per video: `v_<id>.npy`, or below `rgb/` and `flow/`, or `<id>_rgb.npy` and `<id>_flow.npy`.

The I3D features of ActivityNet published by ACM-Net and ActionFormer are `v_<id>.npy` with 2048 columns, rgb before
flow; those of THUMOS14 published by BaS-Net, UM and CoLA are `{train,test}/{rgb,flow}/<id>.npy` with 1024. In both a
row is 16 frames at 25 frames per second; rates of other sets must be given. Files may be in further folders, such as a
subset's. Rows of all streams with a width other than 2048 need `--dims`. If `<id>_fps.npy` and
`<id>_timestamps_ms.npy`, as written by video_features, are next to them, they give each video's rate. Exports are
folders of streams. Source: https://github.com/Pilhyeon/BaSNet-pytorch,
https://github.com/happyharrycn/actionformer_release.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wtal.data.files import write_atomic
from wtal.data.layout import ExportedVideo, Item, find, halves, named, npy_rows, per_video
from wtal.data.parsing.object_arrays import read_shape
from wtal.data.published.row_clock import find_clocks
from wtal.errors import FormatError

FPS, STRIDE = "25", "16"
BACKBONE = "i3d"

_JOINED = 2048


def sniff(path: Path) -> bool:
    """Return True if the first `.npy` file has two dimensions, and no name is that of HACS's subsets or W-TALC's."""
    files = find(path, ".npy")
    clock_files = {file for clock in find_clocks(files).values() for file in clock.files}
    files = [file for file in files if file not in clock_files]
    if not files or any(file.name == "videoname.npy" for file in files):
        return False
    folders = {part for file in files for part in file.relative_to(path).parts[:-1]}
    try:
        shape, dtype = read_shape(files[0])
    except FormatError:
        return False
    return len(shape) == 2 and not dtype.hasobject and folders.isdisjoint({"training", "validation", "testing"})


def read(path: Path, annotations: Path | None, dims: Mapping[str, int]) -> list[Item]:
    """List the videos, sorted by their paths.

    Raises:
        FormatError: when there is no `.npy` file.
    """
    return per_video(path, ".npy", npy_rows, partial(_widths, dims), dims, find_clocks(find(path, ".npy")))


def write(folder: Path, videos: Sequence[ExportedVideo]) -> None:
    """Write `STREAM/NAME.npy`, one file per stream and video."""
    for video in videos:
        for stream, values in video.load().items():
            write_atomic(folder / stream / f"{video.name}.npy", partial(np.save, arr=values))


def _widths(dims: Mapping[str, int], width: int, where: str) -> Mapping[str, int]:
    return halves(width, where) if width == _JOINED and not dims else named(dims, width, where)
