"""Copies of videos playable in browsers, made once and found again by the content of their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from joblib import Parallel, cpu_count, delayed

from wtal.data.files import free_bytes, megabytes, swept
from wtal.errors import DiskFullError, VideoError
from wtal.extractors.viewing.look import Look
from wtal.extractors.viewing.proxy import proxy_name, write_proxy
from wtal.pipeline.progress import Reporter

Proxies = Literal["never", "needed", "all"]
"""Kinds of videos to copy for browsers."""


def make_copies(
    videos: Mapping[str, tuple[Path, Look]], folder: Path, proxies: Proxies, reporter: Reporter
) -> tuple[dict[str, str], dict[str, str]]:
    """Make missing copies; return video -> the name of its copy in `folder`, and reasons why some have none.

    Raises:
        DiskFullError: when the disk has no space for them.
    """
    if proxies == "never":
        return {}, {}
    wanted = {video: entry for video, entry in videos.items() if proxies == "all" or entry[1].unplayed}
    names = {video: proxy_name(file) for video, (file, _) in wanted.items()}
    lacking = {names[video]: video for video in wanted if not (folder / names[video]).is_file()}
    failures: dict[str, str] = {}
    if lacking:
        size = sum(wanted[video][1].copy_bytes for video in lacking.values())
        reporter.say(f"{len(lacking)} videos: making copies for browsers in {folder}, about {megabytes(size)}")
        free = free_bytes(folder)
        if free < 2 * size:
            raise DiskFullError(
                f"copies of about {megabytes(size)} do not fit safely on the disk of {folder.parent} with "
                f"{megabytes(free)} free; free some space, or use --proxies never"
            )
        calls = (delayed(_copy)(wanted[video][0], folder / name) for name, video in lacking.items())
        jobs = min(int(cpu_count()), len(lacking))
        with reporter.task("copy", len(lacking), "video") as task, swept(folder / name for name in lacking):
            for video, reason in zip(
                lacking.values(), Parallel(n_jobs=jobs, return_as="generator")(calls), strict=True
            ):
                if reason:
                    failures[video] = reason
                task.advance(note=video)
    return {video: name for video, name in names.items() if (folder / name).is_file()}, failures


def _copy(file: Path, target: Path) -> str:
    try:
        write_proxy(file, target)
    except VideoError as error:
        return str(error)
    return ""
