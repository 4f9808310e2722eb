"""Videos -> a feature store: resumable a video at a time, safe beside itself, whole at the end."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.config import digest
from wtal.data.store_writer import StoreWriter, file_fingerprint
from wtal.errors import ConfigError, VideoError
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import ExtractConfig
from wtal.pipeline.videos import VideoFile, find_videos
from wtal.pipeline.workspace import Workspace
from wtal.registry import BACKBONES

if TYPE_CHECKING:
    from wtal.extractors.extractor import Extractor, ExtractorSpec


_IDLE_SECONDS = 10
"""After so long without work a worker process ends: also when its parent was killed."""


@dataclass(frozen=True)
class ExtractResult:
    """The store, the videos asked for, and why some of them are not in it (id -> reason)."""

    store: Path
    videos: tuple[VideoFile, ...]
    failures: dict[str, str]


@dataclass(frozen=True)
class Machine:
    """How the work is spread: `jobs` videos at once, on `device`; `time_limit` seconds for a reader without a frame."""

    jobs: int = 1
    device: str = "cpu"
    time_limit: float = 60.0


def extract(
    paths: Sequence[Path],
    config: ExtractConfig,
    workspace: Workspace,
    weights: Sequence[str] = (),
    out: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> ExtractResult:
    """Extract every video below `paths` that the store does not hold yet.

    Raises:
        UsageError: when a path or a name does not exist.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    from wtal.extractors.extractor import Extractor

    videos = find_videos(paths)
    spec = make_spec(config, weights, machine)
    extractor = Extractor(spec)
    try:
        target = out or workspace.features / f"{extractor.readable}-{digest(extractor.identity)}"
        writer = StoreWriter.open(target, extractor.identity)
        failures = _clashes(writer, videos)
        for name, reason in failures.items():
            reporter.say(f"failed: {name}: {reason}")
        todo = [video for video in videos if video.id not in failures and not writer.done(video.id)]
        if len(todo) < len(videos) - len(failures):
            reporter.say(f"{len(videos) - len(failures) - len(todo)} of {len(videos)} videos are in {target} already")
        with reporter.task(f"extract {config.backbone}", len(todo), "video") as task:
            for video, reason in _work(target, extractor, todo, machine.jobs):
                if reason:
                    failures[video.id] = reason
                    reporter.say(f"failed: {video.id}: {reason}")
                task.advance(note=video.id)
        writer.publish()
    finally:
        extractor.close()
    return ExtractResult(target, tuple(videos), dict(sorted(failures.items())))


def make_spec(config: ExtractConfig, weights: Sequence[str], machine: Machine) -> "ExtractorSpec":
    """The extractor that a configuration describes.

    Raises:
        ConfigError: when fps is not a positive number or fraction.
    """
    from wtal.extractors.extractor import ExtractorSpec, split_weights

    try:
        fps = Fraction(config.fps)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        raise ConfigError(f"extract.fps is a positive number or fraction such as 25 or 30000/1001, got {config.fps!r}")
    streams = tuple(BACKBONES.load(config.backbone).STREAMS)
    return ExtractorSpec(
        backbone=config.backbone,
        streams=config.streams,
        flow=config.flow,
        fps=fps,
        stride=config.stride,
        tail=config.tail,
        reader=config.reader,
        dtype=config.dtype,
        weights=split_weights(tuple(weights), streams),
        device=machine.device,
        time_limit=machine.time_limit,
    )


def _clashes(writer: StoreWriter, videos: Iterable[VideoFile]) -> dict[str, str]:
    """Videos whose id the store gives to another file."""
    clashes = {}
    for video in videos:
        known = writer.fingerprint(video.id)
        if known and known != file_fingerprint(video.path):
            clashes[video.id] = (
                f"the store holds another file under this id; rename {video.path.name} or use another store"
            )
    return clashes


def _work(
    target: Path, extractor: "Extractor", videos: Sequence[VideoFile], jobs: int
) -> Iterator[tuple[VideoFile, str]]:
    """(video, reason it failed or "") in order of finishing; each video is in the store's parts when it comes."""
    if jobs == 1 or len(videos) < 2:
        # What another process has claimed is left to it first, and waited for at the end.
        later = []
        for video in videos:
            reason = _one(target, extractor, video, wait=False)
            if reason is None:
                later.append(video)
            else:
                yield video, reason
        for video in later:
            yield video, _one(target, extractor, video, wait=True) or ""
        return
    import joblib

    spec = replace(extractor.spec, threads=max(1, extractor.threads // jobs))
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", idle_worker_timeout=_IDLE_SECONDS)
    yield from parallel(joblib.delayed(_in_worker)(target, spec, video) for video in videos)


def _in_worker(target: Path, spec: "ExtractorSpec", video: VideoFile) -> tuple[VideoFile, str]:
    return video, _one(target, _worker_extractor(spec), video, wait=True) or ""


@functools.cache
def _worker_extractor(spec: "ExtractorSpec") -> "Extractor":
    """A worker's extractor, kept over its videos."""
    from wtal.extractors.extractor import Extractor

    return Extractor(spec)


def _one(target: Path, extractor: "Extractor", video: VideoFile, wait: bool) -> str | None:
    """Extract one video into the store: "" when it is in, the reason when it failed, None when another has it."""
    writer = StoreWriter.open(target, extractor.identity)
    with writer.claim(video.id, wait=wait) as mine:
        if not mine:
            return "" if writer.done(video.id) else None
        try:
            made = extractor(video.path)
        except VideoError as error:
            writer.fail(video.id, str(error))
            return str(error)
        info = {"file": video.path.name, **made.info}
        writer.write(video.id, made.grid, made.streams, info, file_fingerprint(video.path))
    return ""
