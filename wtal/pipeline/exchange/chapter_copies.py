"""Copies of videos with their detections embedded as chapters."""

import filecmp
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wtal.data.files import atomic_path, free_bytes, megabytes, room_for
from wtal.data.video_ids import readable
from wtal.errors import DiskFullError, UsageError, VideoError
from wtal.extractors.viewing.chapters import copy_with_chapters
from wtal.pipeline.exchange.export_names import TakenPaths, export_names
from wtal.pipeline.progress import Reporter
from wtal.report.export_text import milliseconds
from wtal.report.exports import EXPORTS, ExportVideo
from wtal.report.fit import fit

NAME = "chapters"
_MARK = "-chapters"


def copy_all(
    videos: Sequence[ExportVideo], shown: Mapping[str, str], out: Path, force: bool, reporter: Reporter
) -> tuple[list[Path], dict[str, str]]:
    """Write a copy `STEM-chapters` of each video with detections; return the copies, and video -> reason for failure.

    Copies that an interrupted call has left are made again and compared, before others are written.

    Raises:
        UsageError: when another file is in the way and may not be replaced, or is outside the folder.
        DiskFullError: when there is not enough space for all.
    """
    chosen = [video for video in videos if video.detections]
    failures = {video.id: "no file found; give its folder with --videos" for video in chosen if video.file is None}
    paths = _paths([video for video in chosen if video.file], out)
    for path in paths:
        if not path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{path} leads out of {out}; remove the link, or choose another --out")
    present = {path for path in paths if path.exists()}
    _require_room(paths, present, out)
    with reporter.task(NAME, len(paths), "video") as task:
        for path, video in sorted(paths.items(), key=lambda item: item[0] not in present):
            try:
                _copy(video, shown, path, replaces=force or path not in present)
            except VideoError as error:
                failures[video.id] = str(error)
            task.advance(1, readable(video.name))
    return [path for path, video in paths.items() if video.id not in failures], failures


def _require_room(paths: Mapping[Path, ExportVideo], present: Collection[Path], out: Path) -> None:
    """Refuse copies that will not fit, before writing any; one of those present needs its size twice."""
    sizes = {path: video.file.stat().st_size for path, video in paths.items() if video.file}
    wanted = sum(size for path, size in sizes.items() if path not in present)
    wanted += max((sizes[path] for path in present), default=0)
    if wanted > (free := free_bytes(out)):
        raise DiskFullError(
            f"copies with chapters take {megabytes(wanted)}, but only {megabytes(free)} are free at {out}"
        )


def _paths(videos: Sequence[ExportVideo], out: Path) -> dict[Path, ExportVideo]:
    taken = TakenPaths()
    names = export_names(videos, exact=False)
    return {
        out / taken.take(name.with_name(name.name + _MARK + video.file.suffix)): video
        for name, video in zip(names, videos, strict=True)
        if video.file
    }


def _copy(video: ExportVideo, shown: Mapping[str, str], path: Path, *, replaces: bool) -> None:
    assert video.file
    fitted, _ = fit(video, EXPORTS.load(NAME).EXPORT, shown)
    chapters = [(*milliseconds(detection), detection.label) for detection in fitted.detections]
    with room_for(path, video.file.stat().st_size), atomic_path(path) as draft:
        copy_with_chapters(video.file, draft, chapters)
        if not replaces and not filecmp.cmp(draft, path, shallow=False):
            raise UsageError(f"{path} already exists; choose another --out, or replace it with --force")
