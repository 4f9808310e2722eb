"""Annotation arrays of W-TALC, still used by many weakly-supervised repositories: a folder of `.npy` files.

`videoname` (N,), `subset` (N,), `classlist` (C,), and as lists of objects: `labels_all` (N, the classes of each video),
`labels` (N, the class of each segment) and `segments` (N, pairs of seconds); `duration` (N,) or (N, 1) seconds may be
missing, and so may `labels_all`. Names are byte strings. The class order is that of `classlist`.

The labels of a video are those of `labels_all` and of its segments: in the published THUMOS14 arrays `labels_all` lacks
classes of segments in 21 videos.

If `Ambiguous_test.txt` is in the folder, its ranges become the videos' `ambiguous` ones.

Object arrays are read without executing code, see `wtal.data.parsing.object_arrays`. Source:
https://github.com/sujoyp/wtalc-pytorch.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.assemble import AMBIGUOUS, DatasetBuilder, number, read_ambiguous
from wtal.data.dataset import Dataset
from wtal.data.parsing.object_arrays import read_array
from wtal.errors import FormatError

_ARRAYS = ("videoname", "subset", "classlist", "labels", "segments")


def sniff(path: Path) -> bool:
    """Return True for a folder with the required arrays."""
    return all((path / f"{name}.npy").is_file() for name in _ARRAYS)


def video_names(path: Path) -> list[str]:
    """Read the video names in the order of the arrays, which is also that of joint feature files."""
    return [_text(name, f"{path}: videoname[{i}]") for i, name in enumerate(read_array(path / "videoname.npy"))]


def read(path: Path) -> Dataset:
    """Read a folder of arrays.

    Raises:
        FormatError: when an array is missing, unsafe, or inconsistent with the others.
    """
    names, subsets, classes, labels, segments = (read_array(path / f"{name}.npy") for name in _ARRAYS)
    video_labels = _read_if_there(path / "labels_all.npy", labels)
    durations = _read_if_there(path / "duration.npy", np.full(len(names), None)).reshape(-1)
    for name, array in zip(("subset", "labels", "segments"), (subsets, labels, segments), strict=True):
        _check_length(path, name, array, len(names))
    _check_length(path, "labels_all", video_labels, len(names))
    _check_length(path, "duration", durations, len(names))
    _require_once(path, [_text(name, f"{path}: videoname") for name in names])
    builder = DatasetBuilder([_text(name, f"{path}: classlist") for name in classes])
    for i, name in enumerate(names):
        video_id = _text(name, f"{path}: videoname[{i}]")
        duration = None if durations[i] is None else number(_plain(durations[i]), f"{path}: duration[{i}]")
        builder.add_video(video_id, _text(subsets[i], f"{path}: subset[{i}]"), duration)
        for label in video_labels[i]:
            builder.add_label(video_id, _text(label, f"{path}: labels_all[{i}]"))
        _add_segments(builder, video_id, labels[i], segments[i], f"{path}: {video_id}")
    if (path / AMBIGUOUS).is_file():
        _add_ambiguous(builder, path / AMBIGUOUS, set(video_names(path)))
    return builder.build()


def _require_once(path: Path, names: list[str]) -> None:
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        first, second = [i for i, name in enumerate(names) if name == repeated][:2]
        raise FormatError(f"{path}: videoname[{first}] and videoname[{second}] are both {repeated!r}; keep one of them")


def _add_segments(builder: DatasetBuilder, video_id: str, labels: Any, segments: Any, where: str) -> None:
    if len(labels) != len(segments):
        raise FormatError(f"{where}: {len(labels)} labels for {len(segments)} segments")
    for label, segment in zip(labels, segments, strict=True):
        if len(segment) != 2:
            raise FormatError(f"{where}: wanted a segment [start, end], got {segment!r}")
        start, end = (number(_plain(value), where) for value in segment)
        builder.add_segment(video_id, _text(label, where), start, end)


def _add_ambiguous(builder: DatasetBuilder, path: Path, known: set[str]) -> None:
    for video_id, ranges in read_ambiguous(path).items():
        for span in ranges:
            if video_id in known:
                builder.add_ambiguous(video_id, span.start, span.end)
            else:
                builder.note("ambiguous ranges of videos that the arrays lack", video_id)


def _check_length(path: Path, name: str, array: NDArray[Any], videos: int) -> None:
    if array.ndim != 1 or len(array) != videos:
        raise FormatError(f"{path / name}.npy: wanted one entry for each of {videos} videos, got shape {array.shape}")


def _read_if_there(path: Path, default: NDArray[Any]) -> NDArray[Any]:
    return read_array(path) if path.is_file() else default


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or not value:
        raise FormatError(f"{where}: wanted a name, got {value!r}")
    return str(value)
