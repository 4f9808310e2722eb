"""Extract one video into every store, here or in a worker process.

The worker that extracts a video also writes it, holding a claim, so that a crash neither loses nor duplicates a video.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.errors import VideoError
from wtal.pipeline.extraction.reasons import UNREADABLE
from wtal.pipeline.extraction.videos import VideoFile

if TYPE_CHECKING:
    from wtal.extractors.execution.extraction_line import ExtractionLine
    from wtal.extractors.execution.extractor import Extracted, ExtractorSpec
    from wtal.extractors.execution.stage_times import Spent

STORE = "store"
HOME = "WTAL_WORKSPACE"


@dataclass(frozen=True)
class Outcome:
    """A finished video: the reason for its failure per store, or "", and the work of the stages since the last one."""

    video: VideoFile
    reasons: list[str]
    spent: "dict[str, Spent]"


def open_writers(stores: Sequence[Path], line: "ExtractionLine") -> list[StoreWriter]:
    """Return a writer for the store of each extractor of `line`.

    Raises:
        StoreError: when a folder holds something other than its store.
    """
    pairs = zip(stores, line.extractors, strict=True)
    return [StoreWriter.open(store, extractor.identity) for store, extractor in pairs]


def extract_video(
    writers: Sequence[StoreWriter], line: "ExtractionLine", video: VideoFile, wait: bool
) -> list[str] | None:
    """Extract one video into every store that lacks it.

    Return a reason for each store, "" if the video is in; None if another process has claimed it, unless `wait` is set,
    in which case that one is waited for.
    """
    reasons = [""] * len(writers)
    with ExitStack() as claims:
        # In the same order everywhere: otherwise two processes could wait for each other's stores for ever.
        order = sorted(range(len(writers)), key=lambda number: writers[number].path)
        claimed = [number for number in order if claims.enter_context(writers[number].claim(video.id, wait=wait))]
        if not all(number in claimed or writers[number].done(video.id) for number in order):
            return None
        for group in line.groups(claimed):
            results, fingerprint = _features(line, video, group)
            with line.times.busy(STORE, sum(not isinstance(result, VideoError) for result in results), "videos"):
                for number, result in zip(group, results, strict=True):
                    reasons[number] = _write(writers[number], video, result, fingerprint)
    return reasons


def _features(
    line: "ExtractionLine", video: VideoFile, numbers: Sequence[int]
) -> "tuple[list[Extracted | VideoError], str]":
    """Return the results of the extractors with these numbers for a video, and the fingerprint of its file."""
    try:
        return line.run(video.path, numbers), file_fingerprint(video.path)
    except OSError as error:
        return [VideoError(UNREADABLE.format(error.strerror))] * len(numbers), ""
    except VideoError as error:
        return [error] * len(numbers), ""


def _write(writer: StoreWriter, video: VideoFile, result: "Extracted | VideoError", fingerprint: str) -> str:
    """Write features or record their failure; return the reason for the failure, or ""."""
    if isinstance(result, VideoError):
        writer.fail(video.id, str(result))
        return str(result)
    writer.write(video.id, result.grid, result.streams, {"file": video.path.name, **result.info}, fingerprint)
    return ""


def extract_in_worker(
    stores: Sequence[Path], specs: "tuple[ExtractorSpec, ...]", home: str, video: VideoFile
) -> Outcome:
    """Extract one video in a worker process; `home` is the workspace, which also holds the weights."""
    os.environ[HOME] = home
    with _desk(specs) as desk:
        reasons = extract_video(open_writers(stores, desk.line), desk.line, video, wait=True)
        return Outcome(video, reasons or [""] * len(stores), desk.spent_since_last())


@dataclass
class _Desk:
    """A worker's extractors, kept across its videos, and the part of their work already reported."""

    line: "ExtractionLine"
    users: int = 0
    reported: "dict[str, Spent]" = field(default_factory=dict)

    def spent_since_last(self) -> "dict[str, Spent]":
        """Return the work of the stages since the last call; no two threads of a worker report the same work."""
        with _DESKS_CHANGE:
            spent, self.reported = self.line.times.since(self.reported)
            return spent


_DESKS: "dict[tuple[ExtractorSpec, ...], _Desk]" = {}
_DESKS_CHANGE = threading.RLock()


@contextmanager
def _desk(specs: "tuple[ExtractorSpec, ...]") -> Iterator[_Desk]:
    """Hold the worker's extractors for these specs; unused ones for other specs are closed."""
    from wtal.extractors.execution.extraction_line import ExtractionLine
    from wtal.extractors.execution.extractor import Extractor

    with _DESKS_CHANGE:
        if specs not in _DESKS:
            for other in [other for other, desk in _DESKS.items() if not desk.users]:
                _DESKS.pop(other).line.close()
            _DESKS[specs] = _Desk(ExtractionLine([Extractor(spec) for spec in specs]))
        desk = _DESKS[specs]
        desk.users += 1
    try:
        yield desk
    finally:
        with _DESKS_CHANGE:
            desk.users -= 1
