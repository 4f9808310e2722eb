"""Names of exported files: of the video where it must be, and never outside of a folder or equal to another."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from wtal.report.export_text import plain
from wtal.report.exports import ExportVideo

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_LONGEST = 180
"""Bytes of a name; file systems take 255 with its ending."""


def export_names(videos: Sequence[ExportVideo], exact: bool) -> list[Path]:
    """Return for each video the path below the folder that its exports are named by, without an ending.

    It lies as the video's file lies below the folder of videos. With `exact` its name is the file's to the letter,
    since a program looks for it. Of names that a file system may take for equal, the later get the file's ending or a
    number.
    """
    taken = TakenPaths()
    paths = []
    for video in videos:
        path = _path(video, exact)
        if path in taken and video.file:
            path = path.with_name(path.name + video.file.suffix)
        paths.append(taken.take(path))
    return paths


class TakenPaths:
    """Paths of which no two are equal to any file system, also where letters differ in case alone."""

    def __init__(self) -> None:
        self._folded: set[str] = set()

    def __contains__(self, path: Path) -> bool:
        return str(path).casefold() in self._folded

    def take(self, path: Path) -> Path:
        """Return a path that is free, and take it: this one, or with a number after its stem."""
        number, free = 2, path
        while free in self:
            free, number = path.with_name(f"{path.stem} ({number}){path.suffix}"), number + 1
        self._folded.add(str(free).casefold())
        return free


def safe_name(text: str, longest: int = _LONGEST) -> str:
    """Return a text as one part of a path that any file system takes: `longest` bytes at most, never empty or `..`."""
    name = _UNSAFE.sub("_", plain(text)).rstrip(" .")
    name = re.sub(r"^[.\-]", "_", name) or "unnamed"
    name = f"_{name}" if _RESERVED.fullmatch(name) else name
    if len(name.encode()) > longest:
        mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name.encode()[: longest - 9].decode('utf-8', 'ignore')}-{mark}"
    return name


def _path(video: ExportVideo, exact: bool) -> Path:
    if video.file is None:
        return Path(safe_name(video.id))
    parts = [*Path(video.relative).parts[:-1], video.file.stem]
    return Path(*(parts if exact else map(safe_name, parts)))
