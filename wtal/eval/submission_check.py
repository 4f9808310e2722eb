"""Check a submission against its challenge: video by video, counting all findings and naming the first ones."""

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.dataset import Dataset
from wtal.data.detections import is_number
from wtal.data.names import bare_id, match_id
from wtal.data.parsing.json_stream import JsonStream
from wtal.data.tally import Tally
from wtal.errors import FormatError, UsageError
from wtal.eval.challenges import Challenge, load_challenge
from wtal.eval.submission import NO_EXTERNAL_DATA

TOLERANCE = 0.5
"""Seconds by which a segment may exceed its video before it is refused: durations differ between decoders."""

OFFENDERS = 5
"""Number of offenders named per kind."""

_SHOWN = 80
"""Maximum number of characters shown of an offender."""

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class SubmissionReport:
    """Errors and warnings of a submission, a line for each kind.

    `expected` is the number of videos expected by the annotations, `missing` that of the missing ones; both are None
    without annotations. `most` is the largest number of detections in a video.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    videos: int
    detections: int
    most: int = 0
    expected: int | None = None
    missing: int | None = None

    @property
    def ok(self) -> bool:
        """True if the challenge would accept it, as far as can be checked here."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """Convert the report to JSON types."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """Format the report as text: errors, warnings, and the verdict in the last line."""
        lines = [f"error: {line}" for line in self.errors] + [f"warning: {line}" for line in self.warnings]
        verdict = "would be accepted" if self.ok else "would be refused"
        missing = "" if self.missing is None else f", {self.missing} of {self.expected} expected videos missing"
        counts = f"{self.detections} detections in {self.videos} videos (at most {self.most} in one{missing})"
        return "\n".join([*lines, f"{counts}: {verdict}"])


def check_submission(
    source: Path | Mapping[str, Any],
    challenge: str,
    dataset: Dataset | None = None,
    subset: str | None = None,
    results_only: bool = False,
) -> SubmissionReport:
    """Check a submission, a file or its JSON value, against the rules of a challenge.

    With a `dataset`, labels must be its classes, ids those of its `subset` (None: all), and segments must end with
    their video; labels missing from the challenge's own list are only a warning then, for custom collections. Without a
    dataset, labels must be the challenge's. `results_only` accepts a file with only `results`, whatever the challenge's
    rule. A file is never in memory as a whole.

    Raises:
        UsageError: when there is no such challenge or no such subset, or a subset without a dataset.
    """
    rules = load_challenge(challenge)
    if dataset is None and subset is not None:
        raise UsageError(f"subset {subset!r} is part of an annotation file; name the file, too")
    check = _Check(rules, _Ids(dataset, subset), results_only or rules.results_only)
    try:
        check.run(_from_file(source) if isinstance(source, Path) else _from_value(source))
    except FormatError as error:
        return SubmissionReport((str(error),), (), 0, 0)
    return check.report()


def read_version(path: Path) -> Any:
    """Return the value of `version` in a file; None if it has none.

    Raises:
        FormatError: when it is not JSON.
    """
    for key, value in _from_file(path):
        if key == "version":
            return value
        for _, entries in value if isinstance(value, Iterator) else ():
            deque(entries or (), maxlen=0)
    return None


_NUMBERS = frozenset({int, float})

_Videos = Iterator[tuple[str, Iterable[Any] | None]]
"""(id, its entries; None if they are not a list)."""


def _from_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the object in a file; `results`, if it is an object, as `_Videos`."""
    with JsonStream.open(path) as stream:
        if stream.peek() != "{":
            stream.value()
            stream.end()
            return
        for key in stream.members():
            if key == "database":
                raise FormatError("there is no 'results' object; 'database' holds annotations, not detections")
            streamed = key == "results" and stream.peek() == "{"
            yield key, _streamed(stream) if streamed else stream.value()
        stream.end()


def _streamed(stream: JsonStream) -> _Videos:
    for video_id in stream.members():
        if stream.peek() == "[":
            yield video_id, stream.items()
        else:
            stream.value()
            yield video_id, None


def _from_value(content: Any) -> Iterator[tuple[str, Any]]:
    for key, value in content.items() if isinstance(content, Mapping) else ():
        videos = key == "results" and isinstance(value, Mapping)
        yield (
            key,
            ((name, entries if isinstance(entries, list) else None) for name, entries in value.items())
            if videos
            else value,
        )


@dataclass
class _Ids:
    """Expected ids, and those seen so far."""

    dataset: Dataset | None
    subset: str | None
    expected: frozenset[str] = frozenset()
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.dataset is not None:
            self.expected = frozenset(video.id for video in self.dataset.select(self.subset or "*"))

    def check(self, name: str, tally: Tally) -> float:
        """Note errors of one id; return the duration of its video in seconds, infinite if unknown."""
        if bare_id(name) != name:
            tally.add("ids that begin with 'v_', unlike the challenge's", printable(name))
        if self.dataset is None:
            return math.inf
        known = match_id(name, self.expected)
        elsewhere = match_id(name, self.dataset.videos)
        if elsewhere is None:
            tally.add("ids missing from the annotations", printable(name))
            return math.inf
        if known is None:
            tally.add(f"ids that are in another subset than {self.subset!r}", printable(name))
        else:
            self.seen.add(known)
        duration = self.dataset.videos[elsewhere].duration
        return math.inf if duration is None else duration

    def missing(self) -> list[str]:
        """Return the expected ids that were not seen, sorted."""
        return sorted(self.expected - self.seen)


class _Check:
    """Collect errors and warnings, a line for each kind, with the first offenders by name."""

    def __init__(self, rules: Challenge, ids: _Ids, results_only: bool) -> None:
        self._rules, self._ids, self._results_only = rules, ids, results_only
        self._official = rules.classes
        self._classes = self._official if ids.dataset is None else frozenset(ids.dataset.classes)
        self._certain = self._official & self._classes
        self._unofficial: set[str] = set()
        self._about_ids, self._errors, self._warnings = Tally(OFFENDERS), Tally(OFFENDERS), Tally(OFFENDERS)
        self._head: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._detections = self._without_segment = self._most = 0

    def run(self, content: Iterable[tuple[str, Any]]) -> None:
        """Check every member of the file.

        Raises:
            FormatError: when it is not JSON, or has no `results`.
        """
        for key, value in content:
            if key in self._head:
                self._about_ids.add("keys that occur twice", repr(key))
            self._head[key] = value
            if key == "results" and isinstance(value, Iterator):
                for video_id, entries in value:
                    self._video(video_id, entries)
        if not isinstance(self._head.get("results"), Iterator):
            raise FormatError("there is no 'results' object: video id -> list of detections")

    def report(self) -> SubmissionReport:
        """Return the findings; classifications are refused as such, without a line for each."""
        head, odd = Tally(OFFENDERS), Tally(OFFENDERS)
        _check_head(self._head, self._results_only, head, odd)
        missing = self._ids.missing()
        part = "the annotations" if self._ids.subset is None else f"subset {self._ids.subset!r}"
        for video_id in missing:
            odd.add(f"videos of {part} that the submission lacks", printable(video_id))
        errors = head.sentences() + self._about_ids.sentences() + self._errors.sentences()
        if self._without_segment and self._without_segment == self._detections:
            errors = (f"no entry of {self._detections} has a segment: this is a classification file, not detections",)
        warnings = odd.sentences() + self._warnings.sentences()
        counts = (len(self._seen), self._detections, self._most)
        if self._ids.dataset is None:
            return SubmissionReport(errors, warnings, *counts)
        return SubmissionReport(errors, warnings, *counts, len(self._ids.expected), len(missing))

    def _video(self, video_id: str, entries: Iterable[Any] | None) -> None:
        if video_id in self._seen:
            self._about_ids.add("videos that occur twice", printable(video_id))
        self._seen.add(video_id)
        duration = self._ids.check(video_id, self._about_ids)
        if entries is None:
            self._errors.add("videos without a list of detections", f"results.{printable(video_id)}")
            return
        count, limit = 0, min(duration, _LARGEST)
        for count, entry in enumerate(entries, 1):
            if not _is_sound(entry, self._certain, limit):
                self._inspect(entry, f"results.{printable(video_id)}[{count - 1}]", duration)
        self._detections += count
        self._most = max(self._most, count)
        if self._rules.max_per_video is not None and count > self._rules.max_per_video:
            self._errors.add(f"videos with more than {self._rules.max_per_video} detections", printable(video_id))

    def _inspect(self, entry: Any, where: str, duration: float) -> None:
        """Note all errors and warnings of one entry."""
        if not isinstance(entry, Mapping):
            self._errors.add("detections that are not objects with label, score and segment", where)
            return
        label, score, segment = entry.get("label"), entry.get("score"), entry.get("segment")
        if not isinstance(label, str) or label not in self._classes:
            self._errors.add("labels that are not classes of the challenge", f"{where} {printable(repr(label))}")
        elif label not in self._official and label not in self._unofficial:
            self._unofficial.add(label)
            finding = "labels missing from the challenge's own list, which its server would refuse"
            self._warnings.add(finding, printable(repr(label)))
        if not is_number(score):
            self._errors.add("scores that are not finite numbers", f"{where} {printable(repr(score))}")
        if segment is None:
            self._without_segment += 1
            self._errors.add("detections without a segment", where)
        elif isinstance(segment, list | tuple) and len(segment) == 2 and all(map(is_number, segment)):
            self._segment(segment[0], segment[1], f"{where} {list(segment)}", duration)
        else:
            self._errors.add("segments that are not two finite numbers", f"{where} {printable(repr(segment))}")

    def _segment(self, start: float, end: float, where: str, duration: float) -> None:
        if start < 0:
            self._errors.add("segments that begin before second 0", where)
        if end < start:
            self._errors.add("segments that end before they begin", where)
        elif end == start:
            self._warnings.add("segments of length 0", where)
        if end > duration + TOLERANCE:
            finding = f"segments that end more than {TOLERANCE} s after their video"
            self._errors.add(finding, f"{where} of {duration} s")
        elif end > duration:
            finding = f"segments that end after their video, by up to {TOLERANCE} s"
            self._warnings.add(finding, f"{where} of {duration} s")


def printable(text: str) -> str:
    """Format text from a file as one line of limited length."""
    plain = text if text.isprintable() else repr(text)[1:-1]
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}..."


def _is_sound(entry: Any, classes: frozenset[str], limit: float) -> bool:
    """Return True if an entry has no errors or warnings, as most: a quick check."""
    try:
        label, score, (start, end) = entry["label"], entry["score"], entry["segment"]
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    numbers = type(score) in _NUMBERS and type(start) in _NUMBERS and type(end) in _NUMBERS
    return numbers and 0 <= start < end <= limit and abs(score) <= _LARGEST and type(label) is str and label in classes


def _check_head(content: Mapping[str, Any], results_only: bool, wrong: Tally, odd: Tally) -> None:
    if set(content) == {"results"} and results_only:
        odd.add("keys required by most servers and missing from a file with only 'results'", "version, external_data")
        return
    for key in ("version", "external_data"):
        if key not in content:
            wrong.add("missing keys", repr(key))
    if "version" in content and not isinstance(content["version"], str):
        wrong.add("values of 'version' that are not strings", printable(repr(content["version"])))
    external = content.get("external_data", NO_EXTERNAL_DATA)
    if not isinstance(external, Mapping) or not isinstance(external.get("used"), bool):
        wrong.add("values of 'external_data' without 'used': true or false", printable(repr(external)))
    elif not isinstance(external.get("details"), str) or (external["used"] and not external["details"]):
        odd.add("values of 'external_data' without 'details'", printable(repr(external)))
    for key in sorted(set(content) - {"version", "results", "external_data"}, key=str):
        odd.add("keys unknown to the challenge", printable(repr(key)))
