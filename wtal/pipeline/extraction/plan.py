"""Plan a call of extraction: the remaining work, and its estimated duration here from a trial of a few seconds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wtal.data.files import free_bytes
from wtal.data.grid import frame_count
from wtal.data.store.writer import StoreWriter
from wtal.errors import VideoError
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction.extract import other_flows, prepare, runs_networks
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.trial import SizedFile, grid, load, measure
from wtal.pipeline.extraction.videos import VideoFile, find_videos, passed_over
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.execution.extraction_line import ExtractionLine
    from wtal.extractors.execution.extractor import Extractor

TRIAL_SECONDS = 10.0
_SAMPLE = 5


@dataclass(frozen=True)
class PlannedVideo:
    """A video; `seconds` as declared in its header, None if undeclared or if it cannot be opened (see `problem`).

    For a video that is `done`, they are those of its features, and its file is not opened.
    """

    id: str
    path: str
    seconds: float | None
    width: int
    height: int
    done: bool
    problem: str


@dataclass(frozen=True)
class PlannedStore:
    """A store to be filled: the videos of declared length, snippets and bytes of features still missing."""

    path: str
    videos: int
    snippets: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """`needed` is the estimated number of seconds on this machine: 0 if nothing is left to extract, None if unknown.

    It is unknown if no video to extract declares its length, or none of those can be read. With `cluster` it is the
    time on this machine alone, as that of a cluster is unknown. `notes` are lines on other content of the folders, and
    on new stores next to others that differ only in the computation of flow.
    """

    videos: tuple[PlannedVideo, ...]
    stores: tuple[PlannedStore, ...]
    free_bytes: int
    needed: float | None
    cluster: bool
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds of video still to be extracted, for headers with a declared length."""
        return sum(video.seconds or 0 for video in self.videos if not video.done)

    @property
    def rate(self) -> float | None:
        """Seconds of video processed per second."""
        return self.seconds / self.needed if self.needed else None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        values = asdict(self)
        return values | {"needed_seconds": values.pop("needed"), "seconds": self.seconds, "rate": self.rate}


def plan(
    paths: Sequence[Path],
    configs: Sequence[ExtractConfig],
    workspace: Workspace,
    weights: Sequence[str] = (),
    out: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    trial: float = TRIAL_SECONDS,
    reporter: Reporter = SILENT,
) -> Plan:
    """Read the headers of pending videos, and try extraction on up to five for about `trial` seconds; write nothing.

    Raises:
        UsageError: when a path or a name does not exist.
        WeightsError: when weights are missing or do not fit.
        StoreError: when a folder holds something other than the store to be filled.
    """
    from wtal.extractors.execution.extraction_line import ExtractionLine

    extractors, stores = prepare(configs, workspace, weights, out, machine)
    writers = [StoreWriter.find(path, extractor.identity) for path, extractor in zip(stores, extractors, strict=True)]
    work: list[_Work] = []
    files = find_videos(paths)
    with ExtractionLine(extractors) as line, reporter.task("read headers", len(files), "video") as task:
        for file in files:
            missing = [number for number, writer in enumerate(writers) if writer is None or not writer.done(file.id)]
            video = _planned_video(line, file) if missing else _extracted_video(writers[0], file)
            work.append(_Work(video, missing))
            task.advance()
        readable = [item for item in work if not item.video.problem]
        groups = line.groups(sorted({number for item in readable if item.known for number in item.missing}))
    machine = machine.settled(sum(bool(item.missing) for item in readable), runs_networks(extractors))
    needed = _needed(extractors, groups, readable, trial, machine, reporter)
    planned = [
        _planned_store(path, extractor, [item.video for item in readable if number in item.missing])
        for number, (path, extractor) in enumerate(zip(stores, extractors, strict=True))
    ]
    notes = (*passed_over(paths), *other_flows(extractors, stores))
    return Plan(
        tuple(item.video for item in work),
        tuple(planned),
        free_bytes(stores[0]),
        needed,
        machine.engine != "loky",
        notes,
    )


@dataclass(frozen=True)
class _Work:
    """A video, and the indices of the stores that lack it."""

    video: PlannedVideo
    missing: list[int]

    @property
    def known(self) -> bool:
        """True if there is something to extract, of known length."""
        return bool(self.missing) and self.video.seconds is not None

    @property
    def file(self) -> SizedFile:
        return SizedFile(Path(self.video.path), self.video.width, self.video.height)


def _planned_video(line: "ExtractionLine", file: VideoFile) -> PlannedVideo:
    try:
        info = line.headers(file.path)
    except VideoError as error:
        return PlannedVideo(file.id, str(file.path), None, 0, 0, False, str(error))
    seconds = float(info.duration) if info.duration and info.duration > 0 else None
    return PlannedVideo(file.id, str(file.path), seconds, info.width, info.height, False, "")


def _extracted_video(writer: StoreWriter | None, file: VideoFile) -> PlannedVideo:
    """Return what a store says of a video that it holds; its file is not opened."""
    account = writer.account(file.id) if writer else None
    seconds, info = (account[0].duration, account[1]) if account else (None, {})
    width, height = (int(info.get(side, 0)) for side in ("width", "height"))
    return PlannedVideo(file.id, str(file.path), seconds, width, height, True, "")


def _needed(
    extractors: "Sequence[Extractor]",
    groups: Sequence[Sequence[int]],
    work: Sequence[_Work],
    trial: float,
    machine: Machine,
    reporter: Reporter,
) -> float | None:
    """Estimate the seconds for everything; None if that is not possible. Each group of extractors is tried separately.

    Several processes are tried as that many videos in flight in this one; videos without a declared length are left
    out.
    """
    extractable = [item for item in work if item.known]
    if not extractable and any(item.missing for item in work):
        return None
    seconds = 0.0
    in_flight = machine.jobs if machine.jobs > 1 else machine.in_flight
    with reporter.task("try", len(groups), "trial") as task:
        for group in groups:
            parts = [_Work(item.video, [number for number in item.missing if number in group]) for item in extractable]
            parts = [part for part in parts if part.missing]
            rates = measure([extractors[number] for number in group], _sample(parts), in_flight, trial / len(groups))
            if rates is None:
                return None
            for part in parts:
                missing = [extractors[number] for number in part.missing]
                seconds += rates.seconds(load(missing, part.file, _frames(missing[0], part.video)))
            task.advance()
    return seconds


def _sample(work: Sequence[_Work]) -> list[SizedFile]:
    """Pick videos evenly from the smallest frames to the largest; the middle first, as time may run out."""
    by_size = sorted(work, key=lambda item: (item.video.width * item.video.height, item.video.id))
    last = len(by_size) - 1
    ranks = dict.fromkeys(round(number * last / (_SAMPLE - 1)) for number in range(_SAMPLE))
    return [by_size[rank].file for rank in sorted(ranks, key=lambda rank: abs(rank - last / 2))]


def _frames(extractor: "Extractor", video: PlannedVideo) -> int:
    """Return the number of frames that the extractor will process; 0 if the header declares no length."""
    return frame_count(extractor.rate, Fraction(video.seconds)) if video.seconds else 0


def _planned_store(path: Path, extractor: "Extractor", videos: Sequence[PlannedVideo]) -> PlannedStore:
    snippets = [grid(extractor, frames).num_snippets for video in videos if (frames := _frames(extractor, video))]
    width = sum(backbone.dim for backbone in extractor.backbones.values())
    row = width * np.dtype(extractor.config.dtype).itemsize
    return PlannedStore(str(path), len(snippets), sum(snippets), sum(snippets) * row)


def plan_lines(planned: Plan) -> list[str]:
    """Return a plan as lines of text."""
    done = sum(video.done for video in planned.videos)
    broken = [video for video in planned.videos if video.problem]
    unknown = sum(not video.done and not video.problem and video.seconds is None for video in planned.videos)
    lines = [f"videos    {len(planned.videos):,}, {done:,} of them already extracted"]
    lines += [f"          {video.id}: {video.problem}" for video in broken]
    if unknown:
        lines.append(f"          {unknown:,} do not declare their length and are not counted below")
    lines.append(f"length    {hours(planned.seconds)} to extract")
    for store in planned.stores:
        to_come = f"{store.snippets:,} snippets of {store.videos:,} videos, {size(store.bytes)}, still to extract"
        lines.append(f"store     {store.path}: {to_come}")
    lines += [f"          {note}" for note in planned.notes]
    lines.append(f"disk      {size(planned.free_bytes)} free")
    lines.append(f"time      {_time(planned)}")
    return lines


def _time(planned: Plan) -> str:
    if planned.needed is None:
        why = "the videos tried cannot be read" if planned.seconds else "no video to extract declares its length"
        return f"unknown: {why}"
    if planned.rate is None:
        return "nothing to extract"
    where = "on this machine alone (the cluster was not tried)" if planned.cluster else "here"
    return f"about {hours(planned.needed)} {where}, {planned.rate:.2g} times real time in a trial"


def hours(seconds: float) -> str:
    """Format seconds in a suitable unit."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Format bytes in a suitable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
