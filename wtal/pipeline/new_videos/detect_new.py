"""Detect with a model in new videos: extracted once into a store of their own, and written together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.detections import begins_of, write_detections
from wtal.data.regular import NOT_REGULAR, is_pipe
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.data.store.index import write_failures
from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.errors import VideoError
from wtal.pipeline.detect import external_data
from wtal.pipeline.extraction.extract import fill
from wtal.pipeline.extraction.videos import VideoFile, find_videos, passed_over
from wtal.pipeline.extraction.worker import Outcome
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace


@dataclass(frozen=True)
class NewDetections:
    """Detections and failures by video id, the files that hold them, and the stores of features."""

    results: Mapping[str, list[Detection]]
    failures: Mapping[str, str]
    file: Path
    table: Path
    stores: tuple[Path, ...]

    @property
    def failures_file(self) -> Path:
        """File of the reasons for failure."""
        return self.file.parent / "failures.json"

    def to_json(self) -> dict[str, Any]:
        """Return the content of `--json`."""
        return {
            "detections": str(self.file),
            "table": str(self.table),
            "stores": [str(store) for store in self.stores],
            "videos": len(self.results) + len(self.failures),
            "failures": dict(self.failures),
        }


def detect_new(
    detector: Detector,
    paths: Sequence[Path],
    workspace: Workspace,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> NewDetections:
    """Detect in videos and folders of videos; videos already extracted are not read again.

    Raises:
        UsageError: when a path does not exist, or none of them contains a video.
        StoreError: when a store cannot be written.
    """
    desk = NewVideos(detector, workspace, reporter)
    videos = find_videos(paths)
    for line in passed_over(paths):
        reporter.say(line)
    keys, failures = _keys(videos)
    failures |= desk.extract([VideoFile(keys[video.id], video.path) for video in videos if video.id in keys])
    results, reasons, begins = {}, {}, {}
    for video in videos:
        reason = failures.get(keys.get(video.id, video.id), "") or desk.change_of(keys[video.id])
        if reason:
            reasons[video.id] = reason
        else:
            results[video.id], begins[video.id] = desk.find(keys[video.id]), desk.begins(keys[video.id])
    folder = out or workspace.new_detections / detector.model.name / _named(paths)
    return write_views(detector, results, reasons, folder, desk.stores, begins)


def _keys(videos: Sequence[VideoFile]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the store keys of videos by their ids, and the reasons why some have none."""
    keys, failures = {}, {}
    for video in videos:
        try:
            keys[video.id] = key_of_file(video.path)
        except VideoError as error:
            failures[video.id] = str(error)
        except OSError as error:
            failures[video.id] = f"the file cannot be opened: {error.strerror}"
    return keys, failures


def key_of_file(path: Path) -> str:
    """Return the key of a video in a store of new videos: the name of its file and a fingerprint of its content.

    Files of the same name in different folders, or at different times, are therefore different videos.

    Raises:
        OSError: when the file cannot be read.
        VideoError: when it is a pipe or a device.
    """
    if is_pipe(path):
        raise VideoError(NOT_REGULAR)
    return f"{path.stem}@{file_fingerprint(path)}"


def _stem(key: str) -> str:
    """Return the file name of a video without its suffix, from its key."""
    return key.rpartition("@")[0]


def _named(paths: Sequence[Path]) -> str:
    """Return a folder's name for the paths of a call: the first one's, and a digest of all."""
    absolute = [str(path.resolve()) for path in paths]
    return f"{Path(absolute[0]).stem}-{digest(absolute)}"


def write_views(
    detector: Detector,
    results: Mapping[str, list[Detection]],
    failures: Mapping[str, str],
    folder: Path,
    stores: tuple[Path, ...],
    begins: Mapping[str, Fraction],
) -> NewDetections:
    """Write detections as JSON and as a table, and failures, each file whole; files of other localizations are kept.

    `begins` maps each video to the second of its first picture.
    """
    own = detector.config == detector.model.recipe.localize
    mark = "" if own else f"-{digest([detector.config.plain(), False])}"
    path = folder / f"detections{mark}.json"
    table = write_detections(results, path.with_suffix(".csv"))
    write_detections(results, path, external_data(detector.model.features), detector.origin() | begins_of(begins))
    result = NewDetections(results, failures, path, table, stores)
    write_failures(folder, failures)
    return result


class NewVideos:
    """Stores of new videos for a detector, shared by all models with the same features."""

    def __init__(self, detector: Detector, workspace: Workspace, reporter: Reporter = SILENT) -> None:
        self.detector, self.reporter = detector, reporter
        for note in detector.notes:
            reporter.say(note)
        extractors = detector.extractors.values()
        names = [f"{extractor.readable}-{digest(extractor.identity)}" for extractor in extractors]
        self.stores = tuple(workspace.new_features / name for name in names)
        self._writers = [
            StoreWriter.open(store, extractor.identity)
            for store, extractor in zip(self.stores, extractors, strict=True)
        ]
        self._opened: list[FeatureStore] | None = None

    def extract(
        self, videos: Sequence[VideoFile], each: Callable[[Outcome], object] = lambda outcome: None
    ) -> dict[str, str]:
        """Extract any videos not yet extracted, whose ids are keys; return key -> reason for those that failed.

        `each` is called with every video as soon as it is extracted or has failed.
        """
        self._opened = None
        extractors = list(self.detector.extractors.values())
        distinct = list({video.id: video for video in videos}.values())
        filled = fill(distinct, extractors, self.stores, self.detector.machine, self.reporter, each, _stem)
        self._opened = [FeatureStore.open(store) for store in self.stores]
        failures: dict[str, str] = {}
        for result in filled:
            failures |= {key: reason for key, reason in result.failures.items() if key not in failures}
        return failures

    def has(self, key: str) -> bool:
        """Return whether a video is in all stores, published or not."""
        return all(writer.done(key) for writer in self._writers)

    def change_of(self, key: str) -> str:
        """Return a complaint if the features under a key belong to another file; "" if they belong to this one."""
        mark = key.rpartition("@")[2]
        if all(writer.fingerprint(key) == mark for writer in self._writers):
            return ""
        return "the file changed while it was being read; run again once it is complete"

    def features(self, key: str) -> dict[str, VideoFeatures]:
        """Return the features of a video in the form that a detector takes."""
        published: Sequence[FeatureStore | None] = self._opened or [None] * len(self._writers)
        parts = [
            store[key] if store is not None and key in store else writer.read(key)
            for store, writer in zip(published, self._writers, strict=True)
        ]
        return dict(zip(self.detector.extractors, parts, strict=True))

    def begins(self, key: str) -> Fraction:
        """Return the second of the first picture of an extracted video."""
        return next(iter(self.features(key).values())).grid.begins

    def find(self, key: str) -> list[Detection]:
        """Return the detections in an extracted video."""
        return self.detector.find(self.features(key))
