"""Watch a folder: detect once in each video that is no longer changing, and rewrite the results.

`state.json`, next to the detections, records the size and time of each file, and its detections or the reason for their
absence. It is written whole after each video, before the files generated from it; so wherever the process is killed,
the next one resumes from there: nothing is lost, and nothing is done or written twice.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from wtal.config import Record, digest
from wtal.data.detections import to_json
from wtal.data.files import write_atomic
from wtal.data.grid import Ratio
from wtal.data.locks import Lock
from wtal.data.parsing.json_keys import read_record
from wtal.data.segments import Detection
from wtal.data.video_ids import short_ids, videos_below
from wtal.errors import FormatError, UsageError, VideoError
from wtal.pipeline.extraction.videos import VideoFile
from wtal.pipeline.extraction.worker import Outcome
from wtal.pipeline.new_videos.detect_new import NewDetections, NewVideos, key_of_file, write_views
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace

_STATE = "state.json"
_FORMAT = "wtal watch"


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks at the folder, and seconds that a file must have been unchanged."""

    interval: float = 2.0
    settle: float = 4.0


@dataclass(frozen=True)
class Stamp:
    """Size in bytes and time of the last change in ns: while both are equal, a file is considered unchanged."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """Read the stamp of a file; None if there is none or it is inaccessible."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class ProcessedFile:
    """A processed file: its stamp before reading, and its detections, or the reason why there are none.

    `begins` is the second of its first picture.
    """

    stamp: Stamp
    detections: tuple[Detection, ...] = ()
    reason: str = ""
    begins: Fraction = Fraction(0)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        entries = [to_json(detection) for detection in self.detections]
        plain = {"size": self.stamp.size, "changed": self.stamp.changed, "reason": self.reason, "detections": entries}
        return plain | ({"begins": str(self.begins)} if self.begins else {})


class DetectionRecord(Record):
    """JSON form of a detection."""

    label: str
    score: float
    segment: Annotated[tuple[float, float], Field(strict=False)]


class ProcessedRecord(Record):
    """JSON form of a processed file."""

    size: int
    changed: int
    reason: str
    detections: list[DetectionRecord]
    begins: Ratio = "0"

    def parsed(self) -> ProcessedFile:
        """Return the parsed record."""
        detections = tuple(Detection(*plain.segment, plain.label, plain.score) for plain in self.detections)
        return ProcessedFile(Stamp(self.size, self.changed), detections, self.reason, Fraction(self.begins))


class _WatchState(Record):
    """Content of a watched folder's `state.json`."""

    format: Literal["wtal watch"]
    version: Literal[1]
    mark: str
    videos: dict[str, ProcessedRecord]


class Watch:
    """A watched folder and the state of its files; one process at a time, under a lock.

    Raises:
        UsageError: when the folder does not exist, or the results belong to another model, localization or folder.
        FormatError: when the state of an earlier call is damaged.
    """

    def __init__(
        self,
        detector: Detector,
        folder: Path,
        workspace: Workspace,
        out: Path | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        reporter: Reporter = SILENT,
    ) -> None:
        if not folder.is_dir():
            raise UsageError(f"--watch takes a folder, and {folder} is not one")
        self.folder, self.pace = folder.resolve(), pace
        self.desk = NewVideos(detector, workspace, reporter)
        settings = {"model": detector.model.digest, "localize": detector.config.plain()}
        self._mark = digest([str(self.folder), settings], 16)
        name = f"watch-{self.folder.name}-{self._mark[:6]}"
        self.out = out or workspace.new_detections / detector.model.name / name
        self._processed = _read_state(self.out / _STATE, self._mark)
        self._resting: dict[Path, tuple[Stamp, float]] = {}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock on the results for a block.

        Raises:
            UsageError: when another process holds it.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        lock = Lock.acquire(self.out / ".lock", wait=False)
        if lock is None:
            raise UsageError(
                f"another process is watching {self.folder} and writing {self.out}; stop it, or choose another --out"
            )
        try:
            self._processed = _read_state(self.out / _STATE, self._mark)
            yield
        finally:
            lock.release()

    def run(
        self,
        each: Callable[[str, ProcessedFile], object] = lambda name, file: None,
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        """Scan the folder repeatedly until `done`; `each` gets the path below the folder of each file just processed.

        An exception of another thread or of a signal may end it anywhere.
        """
        self.results()
        while not done():
            if settled := self.settled():
                self.take(settled, each)
            else:
                time.sleep(self.pace.interval)

    def settled(self) -> list[Path]:
        """Return the files that are new or changed, and have been unchanged for long enough."""
        now, settled = time.monotonic(), []
        resting: dict[Path, tuple[Stamp, float]] = {}
        for path in videos_below(self.folder):
            stamp, known = Stamp.of(path), self._processed.get(self._name(path))
            if stamp is None or (known is not None and known.stamp == stamp):
                continue
            before, since = self._resting.get(path, (stamp, now))
            resting[path] = (stamp, since if before == stamp else now)
            if now - resting[path][1] >= self.pace.settle:
                settled.append(path)
        self._resting = resting
        return settled

    def take(self, paths: list[Path], each: Callable[[str, ProcessedFile], object]) -> None:
        """Detect in files, and record each as soon as it is done."""
        files: dict[str, list[tuple[Path, Stamp]]] = {}
        for path in paths:
            stamp = self._resting[path][0]
            if Stamp.of(path) != stamp:  # changed, or gone, since then
                continue
            try:
                files.setdefault(key_of_file(path), []).append((path, stamp))
            except VideoError as error:
                self._enter(path, ProcessedFile(stamp, reason=str(error)), each)
            except OSError as error:
                self._enter(path, ProcessedFile(stamp, reason=f"the file cannot be opened: {error.strerror}"), each)

        def enter(key: str, reason: str) -> None:
            for path, stamp in files.pop(key, ()):
                self._enter(path, self._look(key, stamp, reason), each)

        def enter_outcome(outcome: Outcome) -> None:
            enter(outcome.video.id, next(filter(None, outcome.reasons), ""))

        for key in [key for key in files if self.desk.has(key)]:
            enter(key, "")
        if files:
            todo = [VideoFile(key, pairs[0][0]) for key, pairs in files.items()]
            failures = self.desk.extract(todo, enter_outcome)
            for key in list(files):
                enter(key, failures.get(key, ""))

    def results(self) -> NewDetections:
        """Write the output files, and return their content."""
        ids = short_ids({self.folder / name: self.folder for name in self._processed})
        named = sorted((ids[self.folder / name], file) for name, file in self._processed.items())
        detections = {key: list(file.detections) for key, file in named if not file.reason}
        failures = {key: file.reason for key, file in named if file.reason}
        begins = {key: file.begins for key, file in named}
        return write_views(self.desk.detector, detections, failures, self.out, self.desk.stores, begins)

    def _look(self, key: str, stamp: Stamp, reason: str) -> ProcessedFile:
        if reason := reason or self.desk.change_of(key):
            return ProcessedFile(stamp, reason=reason)
        missing = max(float(each.info.get("shortfall", 0)) for each in self.desk.features(key).values())
        if missing:
            reason = (
                f"it ends {missing:.3f} s before its declared end; partly copied? It will be read again once it changes"
            )
            return ProcessedFile(stamp, reason=reason)
        return ProcessedFile(stamp, tuple(self.desk.find(key)), begins=self.desk.begins(key))

    def _enter(self, path: Path, file: ProcessedFile, each: Callable[[str, ProcessedFile], object]) -> None:
        self._processed[self._name(path)] = file
        videos = {name: self._processed[name].to_json() for name in sorted(self._processed)}
        state = {"format": _FORMAT, "version": 1, "mark": self._mark, "videos": videos}
        # ASCII, as file names may not be UTF-8
        write_atomic(self.out / _STATE, f"{json.dumps(state, indent=1, allow_nan=False)}\n".encode())
        self.results()
        each(self._name(path), file)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _read_state(path: Path, mark: str) -> dict[str, ProcessedFile]:
    if not path.exists():
        return {}
    state = read_record(path, _WatchState, "delete it to process its files again", FormatError)
    if state.mark != mark:
        raise UsageError(
            f"{path.parent} holds results of another model, other settings or another folder; choose another --out"
        )
    return {name: entry.parsed() for name, entry in state.videos.items()}
