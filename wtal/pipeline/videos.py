"""Paths that a person names -> videos with ids."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wtal.data.assemble import VIDEO_SUFFIXES
from wtal.errors import UsageError


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file and the id that it has in stores, detections and submissions."""

    id: str
    path: Path


def find_videos(paths: Sequence[Path]) -> list[VideoFile]:
    """Files and folders -> videos, sorted by id.

    A named file is taken whatever its name; in a folder (and all below it) the files are taken whose name carries a
    video suffix. A video's id is its file name without the last suffix. Where several share it, the id is the path
    below the named folder, and with its suffix where that is still shared.

    Raises:
        UsageError: when a path does not exist, or nothing in all of them looks like a video.
    """
    found = list(dict.fromkeys(pair for path in paths for pair in _below(path)))
    if not found:
        raise UsageError(f"no videos in {', '.join(map(str, paths))}; videos end in .mp4, .mkv, .mov, .webm, .avi, ...")
    unique: dict[Path, Path] = {}
    for path, root in found:
        unique.setdefault(path, root)
    ids = _ids(unique)
    return sorted((VideoFile(ids[path], path) for path in unique), key=lambda video: video.id)


def _below(path: Path) -> Iterable[tuple[Path, Path]]:
    """(file, folder that its long id starts below)."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if not _hidden(file.relative_to(path)))
        return [(file.absolute(), path.absolute()) for file in files if _looks_like_video(file)]
    if not path.exists():
        raise UsageError(f"there is nothing at {path}; name video files, or folders that hold some")
    return [(path.absolute(), path.absolute().parent)]


def _looks_like_video(path: Path) -> bool:
    return path.is_file() and any(suffix.lower() in VIDEO_SUFFIXES for suffix in path.suffixes)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _ids(files: dict[Path, Path]) -> dict[Path, str]:
    """The shortest of stem, path below the folder without suffix, and with it, that no other file shares."""
    forms = {
        path: (
            path.stem or path.name,
            str(path.relative_to(root).with_suffix("")),
            str(path.relative_to(root)),
            str(path),
        )
        for path, root in files.items()
    }
    counts = [Counter(forms[path][level] for path in files) for level in range(3)]
    return {
        path: next((form[level] for level in range(3) if counts[level][form[level]] == 1), form[3])
        for path, form in forms.items()
    }
