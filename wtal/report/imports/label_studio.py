"""Label Studio's export as JSON: a task with a submitted annotation has been looked at.

The predictions of a task are wtal's export; the last annotation that was not cancelled is the reviewer's answer. A
task without one was not looked at and is ignored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from wtal.data.detections import is_number
from wtal.data.files import read_head, read_json
from wtal.data.programs.json_types import entries, members
from wtal.errors import FormatError
from wtal.report.imports import Mark, Reviewed, counted, mark

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Prefix added by Label Studio to the name of an uploaded file."""
_KIND = "timelinelabels"
_LEAST, _MOST = 0.01, 1e5
"""Minimum and maximum frames per second accepted for a video."""


def sniff(path: Path) -> bool:
    """Return whether a file is a list of tasks with `data` and `annotations` or `predictions`."""
    head = read_head(path)
    return head.lstrip()[:1] == "[" and '"data"' in head and ('"annotations"' in head or '"predictions"' in head)


def read(path: Path) -> Sequence[Reviewed]:
    """Read the annotated tasks.

    Raises:
        FormatError: naming the malformed task and region.
    """
    tasks = entries(read_json(path), str(path))
    numbered = (
        (f"{path}: task {number}", members(task, f"{path}: task {number}")) for number, task in enumerate(tasks)
    )
    return [reviewed for where, task in numbered for reviewed in _of_task(task, where)]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return labels unchanged."""
    return list(labels)


def _of_task(task: Mapping[str, object], where: str) -> Iterator[Reviewed]:
    answers = [members(answer, where) for answer in entries(task.get("annotations", []), f"{where}: annotations")]
    answers = [answer for answer in answers if answer.get("was_cancelled") is not True]
    if not answers:
        return
    data = members(task.get("data"), f"{where}: data")
    video = data.get("video")
    if not isinstance(video, str):
        raise FormatError(f"{where}: data.video: wanted the address of a video, got {video!r}")
    regions = entries(answers[-1].get("result", []), f"{where}: result")
    lacking = {"regions other than timeline labels": 0}
    marks: list[Mark] = []
    for number, region in enumerate(regions):
        content = members(region, f"{where}: result[{number}]")
        if content.get("type") == _KIND:
            marks += _marks(content, f"{where}: result[{number}]")
        else:
            lacking["regions other than timeline labels"] += 1
    notes = counted(lacking)
    if len(answers) > 1:
        notes = (*notes, f"{len(answers)} annotations of one task, using the last")
    name, others = _names(video)
    yield Reviewed(name, tuple(marks), others, _rate(data.get("fps"), where), True, notes)


def _marks(region: Mapping[str, object], where: str) -> Iterator[Mark]:
    value = members(region.get("value"), f"{where}.value")
    for span in entries(value.get("ranges"), f"{where}.value.ranges"):
        ends = members(span, f"{where}.value.ranges")
        first, last = ends.get("start"), ends.get("end")
        if not (is_number(first) and is_number(last)):
            raise FormatError(f"{where}: wanted two frame numbers, got {first!r} and {last!r}")
        for label in entries(value.get(_KIND), f"{where}.value.{_KIND}"):
            yield mark(first - 1, last, label, where, "frames")  # type: ignore[operator]


def _rate(value: object, where: str) -> Fraction | None:
    if value is None:
        return None
    if not (is_number(value) and _LEAST <= value <= _MOST):  # type: ignore[operator]
        raise FormatError(f"{where}: data.fps: wanted frames per second, got {value!r}")
    return Fraction(float(value)).limit_denominator(1001)  # type: ignore[arg-type]


def _names(address: str) -> tuple[str, tuple[str, ...]]:
    """Return the path in an address of Label Studio, and the original name of an uploaded file."""
    parts = urlsplit(address)
    served = parse_qs(parts.query, errors="surrogateescape").get("d")
    path = served[0] if served else unquote(parts.path, errors="surrogateescape")
    name = path.rpartition("/")[2]
    return path, (name, _UPLOADED.sub("", name))
