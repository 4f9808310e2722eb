"""Distribute videos over threads of this process, processes of this machine, or an existing cluster.

If a worker dies, its video goes to another one; if that dies too, the video is recorded as failed. Machines of a
cluster must see videos and stores under the same paths.
"""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wtal.data.store.writer import StoreWriter
from wtal.errors import WtalError
from wtal.pipeline.devices import AUTOMATIC
from wtal.pipeline.extraction.engines import GONE, start_pool
from wtal.pipeline.extraction.machine import Machine, Spreading
from wtal.pipeline.extraction.reasons import KILLED
from wtal.pipeline.extraction.sources import from_anywhere
from wtal.pipeline.extraction.videos import VideoFile
from wtal.pipeline.extraction.worker import HOME, Outcome, extract_video

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import Extractor

Item = TypeVar("Item")
Result = TypeVar("Result")
_PATIENCE_SECONDS = 0.5


def spread(
    writers: Sequence[StoreWriter], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[Outcome]:
    """Extract every video into every store; yield outcomes in order of completion, once they are in the stores' parts.

    Raises:
        WtalError: when the cluster cannot be reached, or disappears.
    """
    if not videos or (machine.engine == "loky" and machine.jobs == 1):
        return _in_threads(writers, extractors, videos, machine.in_flight)
    return _in_processes(writers, extractors, videos, machine)


def reading_ahead(jobs: int = 1, engine: Spreading = "loky") -> AbstractContextManager[None]:
    """Start the process that reads videos while the block loads libraries; do nothing if other processes extract."""
    if engine != "loky" or jobs not in (AUTOMATIC, 1):
        return nullcontext()
    from wtal.extractors.decoding.isolated import started_ahead

    return started_ahead()


def _in_threads(
    writers: Sequence[StoreWriter], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], in_flight: int
) -> Iterator[Outcome]:
    """Extract in this process; videos claimed by another process are left to it, and waited for at the end."""
    from wtal.extractors.execution.extraction_line import ExtractionLine

    with ThreadPoolExecutor(in_flight) as pool, ExtractionLine(extractors) as line:
        before, remaining = line.times.stages(), list(videos)
        submit = functools.partial(pool.submit, functools.partial(extract_video, writers, line, wait=False))
        while remaining:
            claimed_elsewhere: list[VideoFile] = []
            for video, future in _as_completed(submit, in_flight, remaining):
                reasons = future.result()
                if reasons is None:
                    claimed_elsewhere.append(video)
                    continue
                spent, before = line.times.since(before)
                yield Outcome(video, reasons, spent)
            if len(claimed_elsewhere) == len(remaining):
                time.sleep(_PATIENCE_SECONDS)
            remaining = claimed_elsewhere


def _as_completed(
    submit: Callable[[Item], Future[Result]],
    count: int,
    items: Iterable[Item],
    check: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield (item, its finished future) in order of completion, with `count` items submitted at a time.

    `check` is called again and again while none is finished.
    """
    running: dict[Future[Result], Item] = {}
    for item in items:
        running[submit(item)] = item
        if len(running) == count:
            yield from _finished(running, check)
    while running:
        yield from _finished(running, check)


def _finished(
    running: dict[Future[Result], Item], check: Callable[[], object]
) -> Iterator[tuple[Item, Future[Result]]]:
    while not (done := wait(running, _PATIENCE_SECONDS, FIRST_COMPLETED).done):
        check()
    for future in done:
        yield running.pop(future), future


def _in_processes(
    writers: Sequence[StoreWriter], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[Outcome]:
    """Extract in other processes, here or on a cluster; videos whose process died are retried one by one."""
    stores = tuple(writer.path.absolute() for writer in writers)
    lost = []
    for video, outcome in _attempt(stores, extractors, videos, machine):
        if outcome:
            yield outcome
        else:
            lost.append(video)
    for video in lost:
        for _, outcome in _attempt(stores, extractors, [video], machine):
            yield outcome or _record_killed(writers, video)


def _attempt(
    stores: tuple[Path, ...], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[tuple[VideoFile, Outcome | None]]:
    """Yield videos in order of completion, each with its outcome, or None if its process or a sibling was killed."""
    with start_pool(machine, len(videos)) as pool:
        specs = tuple(replace(from_anywhere(extractor.spec), share=pool.share) for extractor in extractors)
        home = str(Path(os.environ.get(HOME) or "workspace").absolute())
        submit = functools.partial(pool.submit, stores, specs, home)
        for video, future in _as_completed(submit, pool.together, videos, pool.check):
            if future.cancelled():
                raise WtalError(GONE.format(machine.cluster))
            yield video, None if isinstance(future.exception(), pool.killed) else future.result()


def _record_killed(writers: Sequence[StoreWriter], video: VideoFile) -> Outcome:
    """Record a failure for a video whose worker was killed, in the stores that lack it."""
    reasons = []
    for writer in writers:
        reasons.append("" if writer.done(video.id) else KILLED)
        if reasons[-1]:
            writer.fail(video.id, KILLED)
    return Outcome(video, reasons, {})
