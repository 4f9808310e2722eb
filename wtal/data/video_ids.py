"""Recognise video files and assign their ids: one rule for folders, tables and the command line."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
    folder = folder.absolute()
    return [file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder)) and is_video_file(file)]


def passed_over(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what `videos_below` leaves out: a plural phrase for its kind, and the path relative to the folder."""
    folder = folder.absolute()
    for entry in sorted(folder.rglob("*")):
        below = entry.relative_to(folder)
        if is_video_file(entry):
            if _hidden(below):
                yield "hidden files, skipped", readable(below.as_posix())
        elif is_video_name(entry):
            yield "folders and pipes with a video's name, skipped", readable(below.as_posix())
        elif entry.is_file() and not _hidden(below):
            yield "files without a video's name, skipped", readable(below.as_posix())


def readable(text: str) -> str:
    """Make a file name printable anywhere: each byte that is not UTF-8 becomes U+FFFD."""
    return _UNDECODABLE.sub("\ufffd", text)


def short_ids(files: Mapping[AnyPath, PurePath]) -> dict[AnyPath, str]:
    """Assign a unique id to each file, from the folder that was searched for it.

    An id is the file name without its last suffix. If several share it, it is the path below the folder without the
    suffix, or with it if that is still shared; for files of the same path below several folders, the whole path.
    """
    forms = {path: _forms(path, root) for path, root in files.items()}
    length = dict.fromkeys(forms, 0)
    while True:
        holders = defaultdict(list)
        for path, of_path in forms.items():
            holders[of_path[length[path]]].append(path)
        shared = [paths for paths in holders.values() if len(paths) > 1]
        if not shared:
            return {path: of_path[length[path]] for path, of_path in forms.items()}
        for paths in shared:
            shortest = min(length[path] for path in paths)
            length.update({path: shortest + 1 for path in paths if length[path] == shortest})


def _forms(path: PurePath, root: PurePath) -> tuple[str, ...]:
    """List the possible ids of a file, from the shortest to one that no other path can have."""
    below = path.relative_to(root)
    texts: Iterable[str] = (path.stem, below.with_suffix("").as_posix(), below.as_posix(), path.as_posix())
    return (*map(readable, texts), path.as_posix().encode("unicode_escape").decode("ascii"))


def _hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)
