"""HACS's own features: rgb only, two rows per second, `training/<id>.npy`, `validation/<id>.npy`, `testing/<id>.npy`.

Row i is centred at second (i + 0.5) / 2, whatever the rate of the video; the 2048 columns are from one network that
the page calls I3D. Ids are those of YouTube, without `v_`. Source: http://hacs.csail.mit.edu
(hacs_segments_features.zip).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wtal.data.files import write_atomic
from wtal.data.layout import ExportedVideo, Item, file_name, find, npy_rows, per_video
from wtal.data.names import bare_id
from wtal.errors import FormatError, UsageError

FPS, STRIDE = "2", "1"
BACKBONE = "hacs-i3d"

_SUBSETS = ("training", "validation", "testing")
_ID = 11  # characters of a YouTube id


def sniff(path: Path) -> bool:
    """Return True if there are `.npy` files only in folders of the three subsets, named by YouTube ids."""
    files = find(path, ".npy") if path.is_dir() else []
    return bool(files) and all(file.parent.name in _SUBSETS and len(file.stem) == _ID for file in files)


def read(path: Path, annotations: Path | None, dims: Mapping[str, int]) -> list[Item]:
    """List the videos, sorted by their paths; all columns are rgb.

    Raises:
        FormatError: when there is no `.npy` file, or other streams are named.
    """
    if set(dims) - {"rgb"}:
        raise FormatError(f"{path}: HACS's features are rgb only; omit --dims")
    return per_video(path, ".npy", npy_rows, lambda width, where: dims or {"rgb": width}, dims)


def name_of(video_id: str) -> str:
    """Return the name of a video's file: its id without `v_`."""
    return file_name(bare_id(video_id))


def write(folder: Path, videos: Sequence[ExportedVideo]) -> None:
    """Write `SUBSET/NAME.npy` for each video, or `NAME.npy` if the subset is unknown.

    Raises:
        UsageError: when a video has other streams than rgb.
    """
    for video in videos:
        streams = video.load()
        if set(streams) != {"rgb"}:
            raise UsageError(f"HACS's layout has rgb only, the store has {', '.join(streams)}; add --streams rgb")
        write_atomic(folder / video.subset / f"{video.name}.npy", partial(np.save, arr=streams["rgb"]))
