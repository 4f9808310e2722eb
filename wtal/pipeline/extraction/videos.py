"""Paths given by the user -> videos with ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wtal.data import video_ids
from wtal.data.tally import Tally
from wtal.data.video_ids import short_ids, videos_below
from wtal.errors import UsageError


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file and its id in stores, detections and submissions."""

    id: str
    path: Path


def find_videos(paths: Sequence[Path]) -> list[VideoFile]:
    """Find the videos at or below the paths, sorted by id.

    An explicitly named file is accepted under any name; in a folder (and all below it), files with the extension of a
    video are, broken links among them. A video's id is its file name without the last suffix. If several share it, the
    id is the path below the named folder, including the suffix if that is still shared.

    Raises:
        UsageError: when a path does not exist, or none of them contains a video.
    """
    rooted = list(dict.fromkeys(pair for path in paths for pair in _below(path)))
    if not rooted:
        raise UsageError(f"no videos in {', '.join(map(str, paths))}; {_hint(paths)}")
    unique: dict[Path, Path] = {}
    for path, root in rooted:
        unique.setdefault(path, root)
    ids = short_ids(unique)
    return sorted((VideoFile(ids[path], path) for path in unique), key=lambda video: video.id)


def _hint(paths: Sequence[Path]) -> str:
    endings = "videos end in .mp4, .mkv, .mov, .webm, .avi, ..."
    return "; ".join((endings, *passed_over(paths)))


def passed_over(paths: Sequence[Path]) -> tuple[str, ...]:
    """Describe the files in the given folders that `find_videos` leaves out, counted by kind."""
    tally = Tally()
    for path in dict.fromkeys(path.absolute() for path in paths if path.is_dir()):
        for kind, name in video_ids.passed_over(path):
            tally.add(kind, name)
    return tally.sentences()


def _below(path: Path) -> Iterable[tuple[Path, Path]]:
    """Return (file, folder that its long id starts below) for all video files at or below a path."""
    if path.is_dir():
        return [(file, path.absolute()) for file in videos_below(path)]
    if not path.exists():
        raise UsageError(f"{path} does not exist; pass video files or folders of videos")
    return [(path.absolute(), path.absolute().parent)]
