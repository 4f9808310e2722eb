"""Common parts of the layouts of published features: group files into videos, read rows, split columns."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.data.parsing.object_arrays import read_array
from wtal.data.published.row_clock import StatedClock
from wtal.data.store import Features
from wtal.data.video_ids import short_ids
from wtal.errors import FormatError

STREAM_FOLDERS = {"rgb": "rgb", "spatial": "rgb", "flow": "flow", "temporal": "flow"}
"""Folder name in lower case -> its stream."""

Streams = dict[str, Features]
Rows = Callable[[Path], Features]
Widths = Callable[[int, str], Mapping[str, int]]
"""(number of columns, where) -> stream -> D; raises FormatError if unknown."""


@dataclass(frozen=True)
class Item:
    """One video of a published set: its name there, its files, and the loader of its features.

    `load` returns {stream: (T, D)}; `grid`, if files next to the rows state the clock, makes a grid of T rows. Both
    raise FormatError if a file does not follow the layout.
    """

    name: str
    files: tuple[Path, ...]
    load: Callable[[], Streams]
    grid: Callable[[int], SnippetGrid] | None = None


@dataclass(frozen=True)
class ExportedVideo:
    """One video to export: its name in the files, its subset (empty if unknown), and the loader of {stream: (T, D)}.

    The streams are in the order in which a layout joins them.
    """

    name: str
    subset: str
    load: Callable[[], Streams]


def find(path: Path, suffix: str) -> list[Path]:
    """List the files with a suffix in and below a folder, sorted, without hidden ones; or the file itself."""
    if path.is_file():
        return [path] if path.suffix.lower() == suffix else []
    files = (file for file in sorted(path.rglob("*")) if file.suffix.lower() == suffix and file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def per_video(
    path: Path,
    suffix: str,
    rows: Rows,
    widths: Widths,
    dims: Mapping[str, int],
    clocks: Mapping[Path, StatedClock] = MappingProxyType({}),
) -> list[Item]:
    """List videos with a file each, or a file per stream: in `rgb/` and `flow/`, or named `_rgb` and `_flow`.

    `rows` reads one file, `widths` gives the columns per stream if a file has all streams. Names of streams in `dims`
    are recognized, too. `clocks` are those stated by files next to the rows, by the path of the video from
    `find_clocks`; the names of its rows may end in a word other than a stream.

    Raises:
        FormatError: when there is no file with the suffix, or two of one video and stream.
    """
    root = path if path.is_dir() else path.parent
    groups: dict[PurePath, dict[str, Path]] = defaultdict(dict)
    folders = {**STREAM_FOLDERS, **{name: name for name in dims}}
    stated = {root / _stream_of(video.relative_to(root), folders)[1]: clock for video, clock in clocks.items()}
    clock_files = {file for clock in clocks.values() for file in clock.files}
    for file in [file for file in find(path, suffix) if file not in clock_files]:
        stream, video_path = _stream_of(file.relative_to(root), folders)
        bare = video_path.with_name(f"{video_path.stem.rpartition('_')[0]}{suffix}")
        if not stream and root / bare in stated:
            video_path = bare
        if groups[root / video_path].setdefault(stream, file) != file:
            raise FormatError(
                f"{file} and {groups[root / video_path][stream]} are of one video and stream; keep one of them"
            )
    if not groups:
        raise FormatError(f"{path} has no {suffix} file")
    streams = sorted({stream for files in groups.values() for stream in files})
    names = short_ids(dict.fromkeys(groups, root))
    load = partial(_load, rows=rows, streams=streams, widths=widths)
    return [_item(names[at], groups[at], partial(load, groups[at]), stated.get(Path(at))) for at in groups]


def _item(name: str, files: Mapping[str, Path], load: Callable[[], Streams], clock: StatedClock | None) -> Item:
    if clock is None:
        return Item(name, tuple(files.values()), load)
    return Item(name, (*files.values(), *clock.files), load, clock.grid)


def split(rows: Features, dims: Mapping[str, int], where: str) -> Streams:
    """(T, sum of D) -> {stream: (T, D)}, the columns in the order of `dims`.

    Raises:
        FormatError: when the widths do not add up.
    """
    if sum(dims.values()) != rows.shape[1]:
        widths = ", ".join(f"{name}={dim}" for name, dim in dims.items())
        raise FormatError(f"{where}: {rows.shape[1]} columns, but --dims {widths} add up to {sum(dims.values())}")
    ends = np.cumsum(list(dims.values()))[:-1]
    return dict(zip(dims, np.split(rows, ends, axis=1), strict=True))


def halves(width: int, where: str) -> dict[str, int]:
    """Return the widths of rgb and flow, each one half of a row.

    Raises:
        FormatError: when the width is odd.
    """
    if width % 2:
        raise FormatError(f"{where}: {width} columns cannot be halved into rgb and flow; name them: --dims rgb={width}")
    return {"rgb": width // 2, "flow": width // 2}


def named(dims: Mapping[str, int], width: int, where: str) -> Mapping[str, int]:
    """Return the widths named by the user.

    Raises:
        FormatError: when none are named.
    """
    if not dims:
        raise FormatError(f"{where}: {width} columns of unknown streams; name them: --dims rgb=D,flow=D")
    return dims


def joined(streams: Streams) -> Features:
    """Concatenate {stream: (T, D)} as (T, sum of D), in their order."""
    return np.concatenate(list(streams.values()), axis=1)


def as_rows(value: Any, where: str) -> Features:
    """Convert (T, D) numbers to float32, unless they are float16.

    Raises:
        FormatError: when the value is not (T, D) numbers.
    """
    rows: NDArray[Any] = np.asarray(value)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.shape[1]:
        raise FormatError(f"{where}: wanted (T, D) numbers, got an array {rows.shape} of {rows.dtype}")
    native = rows.dtype.newbyteorder("=")
    dtype = native if native in (np.float16, np.float32) else np.dtype(np.float32)
    with np.errstate(over="ignore"):  # infinite values are refused later
        return rows.astype(dtype, copy=False)


def npy_rows(path: Path) -> Features:
    """Read the (T, D) numbers of a plain `.npy` file.

    Raises:
        FormatError: when it has any other content.
    """
    return as_rows(read_array(path), str(path))


def file_name(video_id: str) -> str:
    """Make a file name, without its suffix, for any id; ids of letters, digits and common signs are unchanged."""
    name = quote(video_id, safe=" !#$&'()+,;=@[]{}~", errors="backslashreplace")
    name = re.sub(r"[_-](?=(rgb|flow)$)", lambda mark: f"%{ord(mark[0]):X}", name, flags=re.IGNORECASE)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _stream_of(path: PurePath, folders: Mapping[str, str]) -> tuple[str, PurePath]:
    """Return the stream of a file (empty if its path does not name one), and its path without that word."""
    for i, part in enumerate(path.parts[:-1]):
        if part.lower() in folders:
            return folders[part.lower()], PurePath(*path.parts[:i], *path.parts[i + 1 :])
    match = re.fullmatch(r"(.+)[_-](rgb|flow)", path.stem, re.IGNORECASE)
    return (match[2].lower(), path.with_name(f"{match[1]}{path.suffix}")) if match else ("", path)


def _load(files: Mapping[str, Path], rows: Rows, streams: Iterable[str], widths: Widths) -> Streams:
    missing = [name for name in streams if name not in files]
    if missing:
        raise FormatError(f"it has no file of {missing[0] or 'all streams'}")
    if "" not in files:
        return {name: rows(files[name]) for name in sorted(files, reverse=True)}
    values, where = rows(files[""]), str(files[""])
    return split(values, widths(values.shape[1], where), where)
