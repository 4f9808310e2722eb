"""Build a `Dataset` from the raw values of an annotation file: one policy for all formats, every irregularity reported.

Ground truth is not altered, because official results are computed on the original. A segment that ends after its video,
begins before second 0 or has no length is reported and kept; one that ends before it begins, or whose times are not
finite, is reported and dropped, while its label still counts for the video. A label missing from a fixed class list is
reported and becomes a class after the listed ones.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.files import read_json, read_text
from wtal.data.parsing.table import clock_seconds
from wtal.data.segments import Annotation, Segment
from wtal.data.tally import Tally
from wtal.errors import FormatError
from wtal.refusals import written

AMBIGUOUS = "Ambiguous_test.txt"
"""File of THUMOS14's ambiguous ranges."""
UNNAMED_SUBSET = "unspecified"
"""Subset of videos for which the file names none."""


def number(value: object, where: str, wanted: str = "a number") -> float:
    """Convert a number, or a string that contains one, to float; it may be NaN or infinite.

    Raises:
        FormatError: naming `where` and what was `wanted`, for anything else.
    """
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise FormatError(f"{where}: wanted {wanted}, got {value!r}")


def text(value: object, where: str) -> str:
    """Return a non-empty string.

    Raises:
        FormatError: naming `where`, for anything else.
    """
    if isinstance(value, str) and value:
        return value
    raise FormatError(f"{where}: wanted a string, got {value!r}")


@dataclass
class _Video:
    subset: str
    duration: float | None
    labels: set[str] = field(default_factory=set)
    annotations: list[Annotation] = field(default_factory=list)
    ambiguous: list[Segment] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)


class DatasetBuilder:
    """Collect videos, labels and segments in any order, count irregularities, and build the `Dataset`.

    `classes` is the class list fixed by the file, in its order; without one it is all labels, sorted.
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._classes = classes
        self._videos: dict[str, _Video] = {}
        self._tally = Tally()
        self._first_use: dict[tuple[str, str], str] = {}
        self.where = ""
        """Location in the file of the next additions, if the video's name does not identify it."""

    def note(self, finding: str, offender: str) -> None:
        """Report any other finding: a plural phrase, and the video or place."""
        self._tally.add(finding, offender)

    def add_video(self, video_id: str, subset: str, duration: float | None = None) -> None:
        """Add a video; a repeated call must not contradict the first. `duration` is in seconds.

        Raises:
            FormatError: when a video has two subsets or two durations.
        """
        if duration is not None and not (math.isfinite(duration) and duration > 0):
            self.note("durations not above 0, treated as unknown", video_id)
            duration = None
        self._note_use("subsets", subset, video_id)
        known = self._videos.setdefault(video_id, _Video(subset, duration))
        if known.subset != subset:
            raise FormatError(f"video {video_id!r} is in subset {known.subset!r} and in {subset!r}; give it one")
        if known.duration is None:
            known.duration = duration
        elif duration not in (None, known.duration):
            raise FormatError(f"video {video_id!r} lasts {known.duration} s and {duration} s; give it one duration")

    def add_label(self, video_id: str, label: str) -> None:
        """Add a label to a known video, which shows it somewhere."""
        self._videos[video_id].labels.add(label)
        self._note_use("classes", label, video_id)
        if self._classes is not None and label not in self._classes:
            self.note("labels missing from the file's class list, added as classes", f"{label!r} in {video_id}")

    def add_absent(self, video_id: str, label: str) -> None:
        """Add an absent label to a known video, which does not show it; other classes stay unknown without labels."""
        self._videos[video_id].absent.add(label)
        self._note_use("classes", label, video_id)

    def add_segment(self, video_id: str, label: str, start: float, end: float) -> None:
        """Add a segment to a known video, which shows `label` from `start` to `end` (seconds)."""
        self.add_label(video_id, label)
        if not (math.isfinite(start) and math.isfinite(end)):
            self.note("segments without finite times, left out", video_id)
        elif end < start:
            self.note("segments that end before they begin, left out", video_id)
        else:
            self._videos[video_id].annotations.append(Annotation(start, end, label))

    def add_ambiguous(self, video_id: str, start: float, end: float) -> None:
        """Add an ambiguous range to a known video, from `start` to `end` (seconds)."""
        if math.isfinite(start) and math.isfinite(end) and start <= end:
            self._videos[video_id].ambiguous.append(Segment(start, end))
        else:
            self.note("ambiguous ranges without finite start <= end, left out", video_id)

    def build(self) -> Dataset:
        """Build the dataset, its videos in the order in which they were added.

        Raises:
            FormatError: when a video both shows and does not show a class, or when two classes or two subsets differ
                only in capitals or spaces.
        """
        labels = {label for video in self._videos.values() for label in video.labels | video.absent}
        classes = tuple(self._classes if self._classes is not None else sorted(labels))
        classes += tuple(sorted(labels.difference(classes)))
        self._require_distinct(classes)
        for video_id, video in self._videos.items():
            self._inspect(video_id, video)
        return Dataset(classes, self._records(classes), self._tally.sentences())

    def _require_distinct(self, classes: Iterable[str]) -> None:
        """Refuse classes, or subsets, that a reader would not distinguish."""
        for kind, names in (("classes", classes), ("subsets", [video.subset for video in self._videos.values()])):
            if twins := _look_alikes(names):
                uses = [f"{name!r} ({self._first_use.get((kind, name), 'in the list of classes')})" for name in twins]
                raise FormatError(
                    f"{kind} {' and '.join(uses)} differ only in capitals or spaces; write them the same way"
                )

    def _note_use(self, kind: str, name: str, video_id: str) -> None:
        self._first_use.setdefault((kind, name), self.where or f"first in {video_id}")

    def _records(self, classes: tuple[str, ...]) -> dict[str, VideoRecord]:
        order = {label: i for i, label in enumerate(classes)}
        return {
            video_id: VideoRecord(
                video_id,
                video.duration,
                video.subset,
                tuple(sorted(video.labels, key=order.__getitem__)),
                tuple(video.annotations),
                tuple(video.ambiguous),
                tuple(sorted(video.absent, key=order.__getitem__)),
            )
            for video_id, video in self._videos.items()
        }

    def _inspect(self, video_id: str, video: _Video) -> None:
        for label in sorted(video.labels & video.absent):
            raise FormatError(f"video {video_id!r} lists {label!r} as both shown and absent; keep one of the two")
        end = math.inf if video.duration is None else video.duration
        for annotation in video.annotations:
            if annotation.start >= end:
                self.note("segments that begin after their video, kept", video_id)
            elif annotation.end > end:
                self.note("segments that end after their video, kept", video_id)
            if annotation.start < 0:
                self.note("segments that begin before second 0, kept", video_id)
            if annotation.start == annotation.end:
                self.note("segments of length 0, kept", video_id)
        for _ in range(len(video.annotations) - len(set(video.annotations))):
            self.note("duplicate annotations, kept", video_id)
        if not video.labels:
            self.note("videos without annotation" if not video.absent else "videos with absent classes only", video_id)
        elif not video.annotations:
            self.note("videos with labels but no segments", video_id)


def _look_alikes(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that differ only in capitals, spaces or the composition of letters."""
    plain: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", " ".join(name.split())).casefold()
        if (other := plain.setdefault(key, name)) != name:
            return other, name
    return None


def read_database(path: Path) -> Dataset:
    """Read the JSON layout of ActivityNet, HACS and THUMOS14: `database`, or its content alone.

    An entry has `annotations` (each a `label`, and a `segment` of two numbers, possibly as strings; without a segment
    it is a label of the whole video), and may have `subset`, `duration` or `duration_second`, `ambiguous` (ranges of
    two numbers), and `absent` (labels that the video is known not to show).

    The class list is `classes` if the file has it, else the leaves of a `taxonomy`, else all labels, sorted.

    Raises:
        FormatError: when the file is malformed, naming it and the place in it.
    """
    content = read_json(path)
    if not isinstance(content, dict) or ("results" in content and "database" not in content):
        raise FormatError(f"{path}: wanted an object with 'database'; {_what_came(content)}")
    videos = content.get("database", content)
    if not isinstance(videos, dict):
        raise FormatError(f"{path}: database: wanted an object of videos, got {written(videos, by_hand=False)}")
    builder = DatasetBuilder(_fixed_classes(content, path) if "database" in content else None)
    for video_id, entry in videos.items():
        _add_entry(builder, video_id, entry, f"{path}: {video_id}")
    return builder.build()


def _add_entry(builder: DatasetBuilder, video_id: str, entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise FormatError(f"{where}: wanted an object with 'annotations', got {written(entry, by_hand=False)}")
    subset = entry.get("subset")
    if subset is None:
        builder.note(f"videos without a subset, assigned to {UNNAMED_SUBSET!r}", video_id)
    duration = entry.get("duration", entry.get("duration_second"))
    builder.add_video(
        video_id,
        UNNAMED_SUBSET if subset is None else text(subset, f"{where}.subset"),
        None if duration is None else number(duration, f"{where}.duration"),
    )
    annotations = entry.get("annotations", [])
    if not isinstance(annotations, list):
        raise FormatError(f"{where}.annotations: wanted a list, got {written(annotations, by_hand=False)}")
    for i, annotation in enumerate(annotations):
        _add_annotation(builder, video_id, annotation, f"{where}.annotations[{i}]")
    for label in _names(entry.get("absent", []), f"{where}.absent"):
        builder.add_absent(video_id, label)
    ambiguous = entry.get("ambiguous", [])
    if not isinstance(ambiguous, list):
        raise FormatError(f"{where}.ambiguous: wanted a list, got {written(ambiguous, by_hand=False)}")
    for i, segment in enumerate(ambiguous):
        builder.add_ambiguous(video_id, *_times(segment, f"{where}.ambiguous[{i}]"))


def _add_annotation(builder: DatasetBuilder, video_id: str, annotation: Any, where: str) -> None:
    if not isinstance(annotation, dict):
        raise FormatError(f"{where}: wanted an object with 'label' and 'segment', got {annotation!r}")
    label, segment = text(annotation.get("label"), f"{where}.label"), annotation.get("segment")
    if segment is None:
        builder.add_label(video_id, label)
    else:
        builder.add_segment(video_id, label, *_times(segment, f"{where}.segment"))


def _times(segment: Any, where: str) -> tuple[float, float]:
    if not (isinstance(segment, list) and len(segment) == 2):
        raise FormatError(f"{where}: wanted [start, end] in seconds, got {segment!r}")
    return number(segment[0], f"{where}[0]"), number(segment[1], f"{where}[1]")


def _fixed_classes(content: Mapping[str, Any], path: Path) -> list[str] | None:
    if "classes" in content:
        return _names(content["classes"], f"{path}: classes")
    nodes = content.get("taxonomy") or []
    if not (isinstance(nodes, list) and all(isinstance(node, dict) for node in nodes)):
        raise FormatError(f"{path}: taxonomy: wanted a list of objects with 'nodeName' and 'parentName'")
    parents = {node.get("parentName") for node in nodes}
    leaves = {text(node.get("nodeName"), f"{path}: taxonomy[{i}].nodeName") for i, node in enumerate(nodes)} - parents
    return sorted(leaves) or None


def _names(values: Any, where: str) -> list[str]:
    if not isinstance(values, Iterable) or isinstance(values, str | dict):
        raise FormatError(f"{where}: wanted a list of names, got {values!r}")
    names = [text(value, f"{where}[{i}]") for i, value in enumerate(values)]
    if len(set(names)) < len(names):
        raise FormatError(f"{where}: a class is named twice")
    return names


def _what_came(content: Any) -> str:
    if isinstance(content, dict):
        return "it has 'results' instead: it holds detections, not annotations"
    return f"got {written(content, by_hand=False)}"


def read_ambiguous(path: Path) -> dict[str, list[Segment]]:
    """Read THUMOS14's ambiguous ranges, in their order: lines `video start end`, in seconds.

    The three are separated by white space. `1:02.5` and `1:00:02.5` are clock times.

    Raises:
        FormatError: when a line is malformed, naming it.
    """
    ranges: dict[str, list[Segment]] = {}
    for line, row in enumerate(read_text(path).splitlines(), 1):
        cells, where = row.split(), f"{path}: line {line}"
        if not cells:
            continue
        if len(cells) != 3:
            raise FormatError(f"{where}: wanted `video start end`, got {row!r}")
        start, end = (_seconds(cell, where) for cell in cells[1:])
        try:
            ranges.setdefault(cells[0], []).append(Segment(start, end))
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from None
    return ranges


def _seconds(cell: str, where: str) -> float:
    seconds = clock_seconds(cell)
    return number(cell, where, "seconds or a clock time") if seconds is None else seconds
