"""What a call of extraction would do, and how long it would take here: headers, and a few seconds of trial."""

import math
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wtal.data.grid import SnippetGrid, frame_count
from wtal.data.store_writer import StoreWriter
from wtal.errors import VideoError
from wtal.pipeline.extract import prepare
from wtal.pipeline.fan_out import Machine
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import ExtractConfig
from wtal.pipeline.videos import VideoFile, find_videos
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.extractor import Extractor
    from wtal.extractors.line import Line

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
    """A store to be filled: snippets and bytes of features that are to come."""

    path: str
    snippets: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """`rate` is how many seconds of video a second gets through here, None where there is nothing to try."""

    videos: tuple[PlannedVideo, ...]
    stores: tuple[PlannedStore, ...]
    free_bytes: int
    rate: float | None

    @property
    def seconds(self) -> float:
        """Of video that are still to be extracted, where headers say how long they are."""
        return sum(video.seconds or 0 for video in self.videos if not video.done)

    @property
    def needed(self) -> float | None:
        """Seconds that it will take here."""
        return None if self.rate is None else self.seconds / self.rate

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self) | {"seconds": self.seconds, "needed_seconds": self.needed}


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
    """Read the headers, and try extraction on up to five videos, small to large, for `trial` seconds; write nothing.

    Raises:
        UsageError: when a path or a name does not exist.
        WeightsError: when weights are missing or do not fit.
    """
    from wtal.extractors.line import Line

    extractors, stores = prepare(configs, workspace, weights, out, machine)
    files = find_videos(paths)
    writers = [
        StoreWriter.open(path, one.identity)
        for path, one in zip(stores, extractors, strict=True)
        if (path / "index.json").is_file()
    ]
    with Line(extractors) as line:
        videos = [
            _look(line, file, len(writers) == len(stores) and all(writer.done(file.id) for writer in writers))
            for file in files
        ]
        rate = _try(line, _sample(videos), trial, machine.in_flight, reporter)
    todo = [video for video in videos if not video.done]
    planned = [_store(path, one, todo) for path, one in zip(stores, extractors, strict=True)]
    return Plan(tuple(videos), tuple(planned), _free(stores[0]), rate)


def _look(line: "Line", file: VideoFile, done: bool) -> PlannedVideo:
    try:
        info = line.headers(file.path)
    except VideoError as error:
        return PlannedVideo(file.id, str(file.path), None, 0, 0, done, str(error))
    seconds = None if info.duration is None else float(info.duration)
    return PlannedVideo(file.id, str(file.path), seconds, info.width, info.height, done, "")


def _sample(videos: Sequence[PlannedVideo]) -> list[Path]:
    """Videos that are to be extracted, evenly from the smallest pictures to the largest."""
    usable = sorted(
        (video for video in videos if not video.done and not video.problem), key=lambda v: (v.width * v.height, v.id)
    )
    places = [round(i * (len(usable) - 1) / (_SAMPLE - 1)) for i in range(_SAMPLE)] if usable else []
    return [Path(usable[place].path) for place in dict.fromkeys(places)]


def _try(line: "Line", sample: Sequence[Path], trial: float, decoders: int, reporter: Reporter) -> float | None:
    """Seconds of video a second, with as many videos in flight as there will be; every video of the sample in turn.

    What does not see the same frames is tried by itself, as it is extracted. It takes longer than `trial` where what
    was begun does: a clip of a large network may take seconds.
    """
    if not sample:
        return None
    fps = line.extractors[0].spec.fps
    with reporter.task("try", len(sample) * len(line.groups()), "video") as task:
        # What is compiled or loaded on first use is not counted.
        turns = [sample[i % len(sample)] for i in range(max(len(sample), decoders))]
        groups = line.groups()
        share = trial * decoders / len(turns) / len(groups)
        cost = 0.0
        for numbers in groups:
            line.rehearse(sample[0], 0.1, numbers)
            start, frames, lock = time.perf_counter(), 0, threading.Lock()

            def go(path: Path) -> None:
                nonlocal frames
                seen = line.rehearse(path, share, numbers)  # noqa: B023 - it ends within this round
                with lock:  # noqa: B023
                    frames += seen
                task.advance()

            with ThreadPoolExecutor(decoders) as pool:
                list(pool.map(go, turns))
            if not frames:
                return None
            cost += (time.perf_counter() - start) / float(frames / fps)
        return 1 / cost


def _store(path: Path, extractor: "Extractor", todo: Sequence[PlannedVideo]) -> PlannedStore:
    spec = extractor.spec
    counts = [frame_count(spec.fps, Fraction(video.seconds)) for video in todo if video.seconds]
    grids = [SnippetGrid(spec.fps, count, Fraction(extractor.stride), extractor.span, spec.tail) for count in counts]
    snippets = sum(grid.num_snippets for grid in grids)
    width = sum(backbone.dim for backbone in extractor.backbones.values())
    return PlannedStore(str(path), snippets, snippets * width * np.dtype(spec.dtype).itemsize)


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
        lines.append(f"store     {store.path}: {store.snippets:,} snippets, {size(store.bytes)} to come")
    lines.append(f"disk      {size(planned.free_bytes)} free")
    if planned.rate is None or planned.needed is None:
        lines.append("time      nothing to extract")
    else:
        lines.append(f"time      about {hours(planned.needed)} here, {planned.rate:.2g} times real time by trial")
    return lines


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
