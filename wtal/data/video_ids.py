"""Recognize video files and assign their ids: one rule for folders, tables and the command line."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TypeVar

_SUFFIXES = """
    3g2 3gp asf avi divx f4v flv gif insv lrv m2t m2ts m2v m4v mkv mod mov mp4 mpe mpeg mpg mts mxf ogm ogv qt ts vob
    webm wmv y4m
"""
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _SUFFIXES.split())
"""File name extensions of videos, in lower case."""

_SOUND_SUFFIXES = frozenset({".aac", ".ac3", ".flac", ".m4a", ".mka", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
_UNDECODABLE = re.compile("[\ud800-\udfff]")

AnyPath = TypeVar("AnyPath", bound=PurePath)
Parts = tuple[str, ...]


def is_video_name(path: PurePath) -> bool:
    """Return True for the name of a video, or of a sound track cut from one: `x.mp4`, `x.mp4.audio.mp3`.

    The sound track has no picture: it is included so that it is reported as a failure, not skipped silently.
    """
    *before, last = ("", *(suffix.lower() for suffix in path.suffixes))
    return last in VIDEO_SUFFIXES or (last in _SOUND_SUFFIXES and not VIDEO_SUFFIXES.isdisjoint(before))


def is_video_file(path: Path) -> bool:
    """Return True if there is a file, or a broken link, with a video's name."""
    return is_video_name(path) and (path.is_file() or (path.is_symlink() and not path.exists()))


def videos_below(folder: Path) -> list[Path]:
    """List the absolute paths of the videos in and below a folder, sorted, without hidden ones."""
    return [Path(entry.path) for below, entry in _entries(folder) if not _hidden(below) and _is_video(entry)]


def passed_over(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what `videos_below` leaves out: a plural phrase for its kind, and the path relative to the folder."""
    for below, entry in _entries(folder):
        if _is_video(entry):
            if _hidden(below):
                yield "hidden files, skipped", readable("/".join(below))
        elif is_video_name(PurePath(entry.name)):
            yield "folders and pipes with a video's name, skipped", readable("/".join(below))
        elif entry.is_file() and not _hidden(below):
            yield "files without a video's name, skipped", readable("/".join(below))


def _entries(folder: Path) -> list[tuple[Parts, os.DirEntry[str]]]:
    """List the entries in and below a folder with their relative paths, sorted, without following links.

    The system returns the kind of an entry with its name: none of a hundred thousand files has to be opened.
    """
    pairs: list[tuple[Parts, os.DirEntry[str]]] = []
    pending: list[tuple[Parts, str]] = [((), str(folder.absolute()))]
    while pending:
        parts, path = pending.pop()
        with suppress(PermissionError), os.scandir(path) as entries:
            listed = [((*parts, entry.name), entry) for entry in entries]
            pairs += listed
            pending += [(below, entry.path) for below, entry in listed if entry.is_dir(follow_symlinks=False)]
    return sorted(pairs, key=lambda pair: pair[0])


def _is_video(entry: os.DirEntry[str]) -> bool:
    """Apply `is_video_file` to an entry."""
    if not is_video_name(PurePath(entry.name)):
        return False
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())


def readable(text: str) -> str:
    """Make a file name printable anywhere: each byte that is not UTF-8 becomes U+FFFD."""
    return _UNDECODABLE.sub("\ufffd", text)


def short_ids(files: Mapping[AnyPath, PurePath]) -> dict[AnyPath, str]:
    """Assign a unique id to each file, from the folder that was searched for it.

    An id is the file name without its last suffix. If several share it, it is the path below the folder without the
    suffix, or with it if that is still shared; for files of the same path below several folders, the whole path.
    """
    ids = {path: _form(path, root, 0) for path, root in files.items()}
    length = dict.fromkeys(files, 0)
    while True:
        holders = defaultdict(list)
        for path, name in ids.items():
            holders[name].append(path)
        shared = [paths for paths in holders.values() if len(paths) > 1]
        if not shared:
            return ids
        for paths in shared:
            shortest = min(length[path] for path in paths)
            for path in [path for path in paths if length[path] == shortest]:
                length[path] += 1
                ids[path] = _form(path, files[path], length[path])


def _form(path: PurePath, root: PurePath, length: int) -> str:
    """Return a possible id of a file, from length 0, the shortest, to 4, which no other path can have."""
    if length == 0:
        return readable(path.stem)
    if length == 4:
        return path.as_posix().encode("unicode_escape").decode("ascii")
    below = path.relative_to(root)
    return readable((below.with_suffix(""), below, path)[length - 1].as_posix())


def _hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") for part in parts)
