"""A reviewer's verdicts on detections, and the reviewed videos: `verdicts.json`.

`{"format": 1, "verdicts": [{"video", "label", "verdict", "segment", "detection"}], "looked_at": [video]}`; times are in
seconds, as in the detection file. docs/review.md explains each key.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from wtal.data.files import parse_json, parse_text, read_content, write_json
from wtal.data.locks import alone
from wtal.data.segments import Segment, tiou
from wtal.errors import FormatError
from wtal.refusals import refusal

T = TypeVar("T")
Answer = Literal["yes", "no", "moved", "missed", "skip"]
Seconds = tuple[float, float]

_WANTED: dict[Answer, tuple[bool, bool]] = {
    "yes": (False, True),
    "no": (False, True),
    "moved": (True, True),
    "missed": (True, False),
    "skip": (False, True),
}
"""Verdict -> (it has a segment, it has a detection)."""
_SAME = 0.5
"""Overlap (tIoU) from which two missed segments are the same."""
_WAY_OUT = "restore a copy, or delete it to begin without verdicts"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Judged(_Strict):
    """A judged detection: seconds and score from its file."""

    segment: Seconds
    score: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _refuse_backward(self.segment)
        return self


class Verdict(_Strict):
    """A reviewer's verdict on one detection, or a segment without one.

    `segment` is where the class occurs, for `moved` and `missed`; `detection` was judged, for all but `missed`.
    """

    video: str
    label: str
    verdict: Answer
    segment: Seconds | None
    detection: Judged | None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        segment, detection = _WANTED[self.verdict]
        for name, wanted, value in (("segment", segment, self.segment), ("detection", detection, self.detection)):
            if wanted != (value is not None):
                raise ValueError(f"{self.verdict!r} {'needs a' if wanted else 'takes no'} {name}")
        if self.segment is not None:
            _refuse_backward(self.segment)
        return self

    @property
    def subject(self) -> tuple[str, str, Seconds | None, Seconds | None]:
        """Subject of the verdict; a file has at most one verdict per subject."""
        if self.detection is None:
            return self.video, self.label, None, self.segment
        return self.video, self.label, self.detection.segment, None


class Verdicts(_Strict):
    """Content of a file of verdicts; `looked_at` names the videos whose review is finished."""

    format: Literal[1] = 1
    verdicts: tuple[Verdict, ...] = ()
    looked_at: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> Self:
        if (subject := _repeated(verdict.subject for verdict in self.verdicts)) is not None:
            video, label, detection, segment = subject
            raise ValueError(f"two verdicts on {label!r} at {list(detection or segment or ())} in {video!r}")
        if (repeated := _repeated(self.looked_at)) is not None:
            raise ValueError(f"'looked_at' names {repeated!r} twice")
        return self


def parse_verdicts(text: str, where: str) -> Verdicts:
    """Read verdicts from JSON text; error messages begin with `where` (a file).

    Raises:
        FormatError: when the text is malformed, naming the first such place.
    """
    try:
        return Verdicts.model_validate_json(text)
    except ValidationError as error:
        raise FormatError(f"{where} is not a file of verdicts: {refusal(Verdicts, error, by_hand=False)}") from None


def read_verdicts(path: Path, way_out: str = _WAY_OUT) -> Verdicts:
    """Read a file of verdicts; `way_out` is the remedy at the end of an error message about its content.

    Raises:
        FormatError: when it cannot be read or is malformed, naming the first such place.
    """
    content = read_content(path)
    try:
        return parse_verdicts(json.dumps(parse_json(parse_text(content, path), path)), str(path))
    except FormatError as error:
        raise FormatError(f"{error}; {way_out}") from None


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold the lock of a file of verdicts for a block that reads, changes and writes it, so that no answer is lost.

    Raises:
        OSError: when its folder is missing or may not be written to.
    """
    with alone(path.with_name(f".{path.name}.lock")):
        yield


def write_verdicts(verdicts: Verdicts, path: Path) -> Path:
    """Write a file of verdicts, whole or not at all; return its path."""
    return write_json(path, verdicts.model_dump(mode="json"))


def merge_verdicts(before: Verdicts, later: Verdicts) -> tuple[Verdicts, tuple[Verdict, ...]]:
    """Merge later verdicts into earlier ones; return all, and the later ones that differ from earlier ones.

    A missed segment is replaced by a later one of its class with a tIoU of at least 0.5.
    """
    known = {verdict.subject: verdict for verdict in before.verdicts}
    missed = [verdict for verdict in later.verdicts if verdict.verdict == "missed"]
    known = {subject: old for subject, old in known.items() if not any(_replaces(new, old) for new in missed)}
    changed = [new for new in later.verdicts if (old := known.get(new.subject)) and _answer(old) != _answer(new)]
    known.update((verdict.subject, verdict) for verdict in later.verdicts)
    looked_at = tuple(sorted({*before.looked_at, *later.looked_at}))
    return Verdicts(verdicts=tuple(known.values()), looked_at=looked_at), tuple(changed)


def _replaces(new: Verdict, old: Verdict) -> bool:
    if old.verdict != "missed" or (old.video, old.label) != (new.video, new.label):
        return False
    assert new.segment
    assert old.segment
    return tiou(Segment(*new.segment), Segment(*old.segment)) >= _SAME


def _answer(verdict: Verdict) -> tuple[Answer, Seconds | None]:
    return verdict.verdict, verdict.segment


def _refuse_backward(segment: Seconds) -> None:
    if segment[1] < segment[0]:
        raise ValueError(f"the segment {list(segment)} ends before it begins")


def _repeated(values: Iterable[T]) -> T | None:
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
