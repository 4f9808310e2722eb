"""Names of exported files: the video's own where required, never outside a folder, never equal to another."""

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
"""Maximum bytes of a name; file systems allow 255 including the extension."""


def export_names(videos: Sequence[ExportVideo], exact: bool) -> list[Path]:
    """Return for each video the path below the folder that its exports are named by, without an extension.

    It mirrors the path of the video's file below the folder of videos. With `exact` its name is exactly the file's,
    since a program looks for it. If a file system may treat two names as equal, the later one gets the file's extension
    or a number.
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
    """Paths that are distinct on every file system, including those that ignore case."""

    def __init__(self) -> None:
        self._folded: set[str] = set()

    def __contains__(self, path: Path) -> bool:
        return str(path).casefold() in self._folded

    def take(self, path: Path) -> Path:
        """Reserve and return a free path: this one, or with a number after its stem."""
        number, free = 2, path
        while free in self:
            free, number = path.with_name(f"{path.stem} ({number}){path.suffix}"), number + 1
        self._folded.add(str(free).casefold())
        return free


def safe_name(text: str, longest: int = _LONGEST) -> str:
    """Return a text as a path component valid on any file system: up to `longest` bytes, never empty or `..`."""
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
