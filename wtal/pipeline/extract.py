"""Videos -> feature stores: resumable a video at a time, safe beside itself, whole at the end."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.config import digest
from wtal.data.store_writer import StoreWriter, file_fingerprint
from wtal.errors import ConfigError, UsageError, VideoError
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
    return extract_all(paths, [(config, weights)], workspace, out, machine, reporter)[0]


def extract_all(
    paths: Sequence[Path],
    wanted: Sequence[tuple[ExtractConfig, Sequence[str]]],
    workspace: Workspace,
    out: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> list[ExtractResult]:
    """A store for each configuration and its weights, in their order; what sees the same frames is read once.

    Raises:
        UsageError: when a path or a name does not exist, or `out` is to hold several stores.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    from wtal.extractors.extractor import Extractor

    if out is not None and len(wanted) > 1:
        raise UsageError(f"one folder cannot hold {len(wanted)} stores; leave --out, or name one --backbone")
    videos = find_videos(paths)
    extractors = [Extractor(make_spec(config, weights, machine)) for config, weights in wanted]
    try:
        stores = [out or workspace.features / f"{one.readable}-{digest(one.identity)}" for one in extractors]
        if len(set(stores)) < len(stores):
            raise UsageError("a backbone is named twice with the same weights; name each once")
        writers = [StoreWriter.open(store, one.identity) for store, one in zip(stores, extractors, strict=True)]
        failures = [_clashes(writer, videos) for writer in writers]
        for name, reason in {name: reason for found in failures for name, reason in found.items()}.items():
            reporter.say(f"failed: {name}: {reason}")
        todo = [
            video for video in videos if not all(_settled(video, *one) for one in zip(writers, failures, strict=True))
        ]
        if len(todo) < len(videos) - len(failures[0]):
            done = len(videos) - len(failures[0]) - len(todo)
            reporter.say(f"{done} of {len(videos)} videos are in {', '.join(map(str, stores))} already")
        names = ", ".join(config.backbone for config, _ in wanted)
        with reporter.task(f"extract {names}", len(todo), "video") as task:
            for video, reasons in _work(stores, extractors, todo, machine.jobs):
                for found, reason in zip(failures, reasons, strict=True):
                    if reason:
                        found.setdefault(video.id, reason)
                for reason in dict.fromkeys(filter(None, reasons)):
                    reporter.say(f"failed: {video.id}: {reason}")
                task.advance(note=video.id)
        for writer in writers:
            writer.publish()
    finally:
        for one in extractors:
            one.close()
    return [
        ExtractResult(store, tuple(videos), dict(sorted(found.items())))
        for store, found in zip(stores, failures, strict=True)
    ]


def _settled(video: VideoFile, writer: StoreWriter, failures: Mapping[str, str]) -> bool:
    return video.id in failures or writer.done(video.id)


def make_spec(config: ExtractConfig, weights: Sequence[str], machine: Machine) -> "ExtractorSpec":
    """The extractor that a configuration describes.

    Raises:
        ConfigError: when fps is not a positive number or fraction.
    """
    from wtal.extractors.backbone import full_name
    from wtal.extractors.extractor import ExtractorSpec, weights_of_streams

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
        weights=weights_of_streams(weights, full_name(config.backbone), streams),
        device=machine.device,
        time_limit=machine.time_limit,
        crops=config.crops,
        runtime=config.runtime,
        precision=config.precision,
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
    stores: Sequence[Path], extractors: Sequence["Extractor"], videos: Sequence[VideoFile], jobs: int
) -> Iterator[tuple[VideoFile, list[str]]]:
    """(video, why it failed for each store, or "") in order of finishing; it is in the stores' parts when it comes."""
    if jobs == 1 or len(videos) < 2:
        # What another process has claimed is left to it first, and waited for at the end.
        later = []
        for video in videos:
            reasons = _one(stores, extractors, video, wait=False)
            if reasons is None:
                later.append(video)
            else:
                yield video, reasons
        for video in later:
            yield video, _one(stores, extractors, video, wait=True) or []
        return
    import joblib

    specs = [replace(one.spec, threads=max(1, one.threads // jobs)) for one in extractors]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", idle_worker_timeout=_IDLE_SECONDS)
    yield from parallel(joblib.delayed(_in_worker)(stores, specs, video) for video in videos)


def _in_worker(
    stores: Sequence[Path], specs: Sequence["ExtractorSpec"], video: VideoFile
) -> tuple[VideoFile, list[str]]:
    return video, _one(stores, [_worker_extractor(spec) for spec in specs], video, wait=True) or []


@functools.cache
def _worker_extractor(spec: "ExtractorSpec") -> "Extractor":
    """A worker's extractor, kept over its videos."""
    from wtal.extractors.extractor import Extractor

    return Extractor(spec)


def _one(stores: Sequence[Path], extractors: Sequence["Extractor"], video: VideoFile, wait: bool) -> list[str] | None:
    """Extract one video into every store: "" where it is in, the reason where it failed; None when another has it."""
    from wtal.extractors.extractor import extract_together

    writers = [StoreWriter.open(store, one.identity) for store, one in zip(stores, extractors, strict=True)]
    reasons = [""] * len(stores)
    with ExitStack() as claims:
        # In an order that is everybody's: two that wait for each other's stores would wait for ever.
        order = sorted(range(len(stores)), key=lambda i: stores[i])
        todo = [i for i in order if claims.enter_context(writers[i].claim(video.id, wait=wait))]
        if not all(i in todo or writers[i].done(video.id) for i in order):
            return None
        for frames in dict.fromkeys(extractors[i].frames for i in todo):
            same = [i for i in todo if extractors[i].frames == frames]
            try:
                made = extract_together([extractors[i] for i in same], video.path)
            except VideoError as error:
                for i in same:
                    reasons[i] = str(error)
                    writers[i].fail(video.id, reasons[i])
                continue
            for i, one in zip(same, made, strict=True):
                info = {"file": video.path.name, **one.info}
                writers[i].write(video.id, one.grid, one.streams, info, file_fingerprint(video.path))
    return reasons
