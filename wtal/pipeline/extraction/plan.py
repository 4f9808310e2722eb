"""What a call of extraction would do, and how long it would take here: headers, and a few seconds of trial."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wtal.data.grid import frame_count
from wtal.data.store.writer import StoreWriter
from wtal.errors import VideoError
from wtal.pipeline.extraction.extract import other_flows, prepare
from wtal.pipeline.extraction.spread import Machine
from wtal.pipeline.extraction.trial import Picture, grid, load, measure
from wtal.pipeline.extraction.videos import VideoFile, find_videos
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import ExtractConfig
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.execution.assembly_line import Line
    from wtal.extractors.execution.extractor import Extractor

TRIAL_SECONDS = 10.0
_SAMPLE = 5


@dataclass(frozen=True)
class PlannedVideo:
    """`seconds` as the header declares them, None where it does not or the file cannot be opened (then `problem`)."""

    id: str
    path: str
    seconds: float | None
    width: int
    height: int
    done: bool
    problem: str


@dataclass(frozen=True)
class PlannedStore:
    """A store to be filled: videos of declared length, snippets and bytes of features that are to come."""

    path: str
    videos: int
    snippets: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """`needed` is how many seconds it will take here, 0 where there is nothing to extract, None where it is not known.

    It is not known where no video to extract declares its length, or none that does can be read. With `cluster` it is
    what this machine alone would take: of the machines of a cluster nothing is known. `notes` are lines on stores that
    begin beside others.
    """

    videos: tuple[PlannedVideo, ...]
    stores: tuple[PlannedStore, ...]
    free_bytes: int
    needed: float | None
    cluster: bool
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of video that are still to be extracted, where headers say how long they are."""
        return sum(video.seconds or 0 for video in self.videos if not video.done)

    @property
    def rate(self) -> float | None:
        """Seconds of video that a second gets through."""
        return self.seconds / self.needed if self.needed else None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
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
    """Read the headers, and try extraction on up to five videos, for about `trial` seconds; write nothing.

    Raises:
        UsageError: when a path or a name does not exist.
        WeightsError: when weights are missing or do not fit.
        StoreError: when a folder holds something else than the store that would be filled.
    """
    from wtal.extractors.execution.assembly_line import Line

    extractors, stores = prepare(configs, workspace, weights, out, machine)
    found = [StoreWriter.find(path, one.identity) for path, one in zip(stores, extractors, strict=True)]
    videos, lacking = [], []
    with Line(extractors) as line:
        for file in find_videos(paths):
            missing = [number for number, store in enumerate(found) if store is None or not store.done(file.id)]
            videos.append(_look(line, file, not missing))
            lacking.append(missing)
        work = [_Work(video, missing) for video, missing in zip(videos, lacking, strict=True) if not video.problem]
        groups = line.groups(sorted({number for one in work if one.known for number in one.missing}))
    needed = _needed(extractors, groups, work, trial, machine, reporter)
    planned = [
        _store(path, one, [each.video for each in work if number in each.missing])
        for number, (path, one) in enumerate(zip(stores, extractors, strict=True))
    ]
    notes = tuple(other_flows(extractors, stores))
    return Plan(tuple(videos), tuple(planned), _free(stores[0]), needed, machine.engine != "loky", notes)


@dataclass(frozen=True)
class _Work:
    """A video, and the numbers of the stores that lack it."""

    video: PlannedVideo
    missing: list[int]

    @property
    def known(self) -> bool:
        """That there is something to extract, and how long it is."""
        return bool(self.missing) and self.video.seconds is not None

    @property
    def picture(self) -> Picture:
        return Picture(Path(self.video.path), self.video.width, self.video.height)


def _look(line: "Line", file: VideoFile, done: bool) -> PlannedVideo:
    try:
        info = line.headers(file.path)
    except VideoError as error:
        return PlannedVideo(file.id, str(file.path), None, 0, 0, done, str(error))
    seconds = float(info.duration) if info.duration and info.duration > 0 else None
    return PlannedVideo(file.id, str(file.path), seconds, info.width, info.height, done, "")


def _needed(
    extractors: "Sequence[Extractor]",
    groups: Sequence[Sequence[int]],
    work: Sequence[_Work],
    trial: float,
    machine: Machine,
    reporter: Reporter,
) -> float | None:
    """Seconds for all of it, None where nobody knows. What does not see the same frames is tried by itself.

    Processes are tried as so many videos in flight in this one; videos that do not declare their length are left out.
    """
    known = [one for one in work if one.known]
    if not known and any(one.missing for one in work):
        return None
    seconds = 0.0
    in_flight = machine.jobs if machine.jobs > 1 else machine.in_flight
    with reporter.task("try", len(groups), "trial") as task:
        for group in groups:
            mine = [_Work(one.video, [n for n in one.missing if n in group]) for one in known]
            mine = [one for one in mine if one.missing]
            everybody = [extractors[number] for number in group]
            rates = measure(everybody, _sample(mine), in_flight, trial / len(groups))
            if rates is None:
                return None
            for one in mine:
                wanted = [extractors[number] for number in one.missing]
                seconds += rates.seconds(load(wanted, one.picture, _frames(wanted[0], one.video)))
            task.advance()
    return seconds


def _sample(work: Sequence[_Work]) -> list[Picture]:
    """Videos evenly from the smallest pictures to the largest; the middle first, as time may not do for all."""
    pictures = [one.picture for one in sorted(work, key=lambda one: (one.video.width * one.video.height, one.video.id))]
    middle = (len(pictures) - 1) / 2
    places = dict.fromkeys(round(i * (len(pictures) - 1) / (_SAMPLE - 1)) for i in range(_SAMPLE))
    return [pictures[place] for place in sorted(places, key=lambda place: abs(place - middle))]


def _frames(extractor: "Extractor", video: PlannedVideo) -> int:
    """That the extractor will see; 0 where the header does not say how long the video is."""
    return frame_count(extractor.spec.fps, Fraction(video.seconds)) if video.seconds else 0


def _store(path: Path, extractor: "Extractor", todo: Sequence[PlannedVideo]) -> PlannedStore:
    snippets = [grid(extractor, frames).num_snippets for video in todo if (frames := _frames(extractor, video))]
    width = sum(backbone.dim for backbone in extractor.backbones.values())
    row = width * np.dtype(extractor.spec.dtype).itemsize
    return PlannedStore(str(path), len(snippets), sum(snippets), sum(snippets) * row)


def _free(path: Path) -> int:
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def words(planned: Plan) -> list[str]:
    """A plan as lines for a person."""
    done = sum(video.done for video in planned.videos)
    broken = [video for video in planned.videos if video.problem]
    unknown = sum(not video.done and not video.problem and video.seconds is None for video in planned.videos)
    lines = [f"videos    {len(planned.videos):,}, {done:,} of them extracted already"]
    lines += [f"          {video.id}: {video.problem}" for video in broken]
    if unknown:
        lines.append(f"          {unknown:,} do not declare their length; they are not in what follows")
    lines.append(f"length    {hours(planned.seconds)} to extract")
    for store in planned.stores:
        to_come = f"{store.snippets:,} snippets of {store.videos:,} videos, {size(store.bytes)}, to come"
        lines.append(f"store     {store.path}: {to_come}")
    lines += [f"          {note}" for note in planned.notes]
    lines.append(f"disk      {size(planned.free_bytes)} free")
    lines.append(f"time      {_time(planned)}")
    return lines


def _time(planned: Plan) -> str:
    if planned.needed is None:
        why = "those that were tried cannot be read" if planned.seconds else "no video to extract declares its length"
        return f"not known: {why}"
    if planned.rate is None:
        return "nothing to extract"
    where = "on this machine alone, the cluster was not tried" if planned.cluster else "here"
    return f"about {hours(planned.needed)} {where}, {planned.rate:.2g} times real time by trial"


def hours(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
