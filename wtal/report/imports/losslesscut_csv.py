"""LosslessCut segments as a table: `Start,End,Name[,tag...]`, or rows without a header as LosslessCut exports them.

The table does not name its video; its file name does, `STEM-losslesscut.csv` or `STEM.csv`. It does not record what was
looked at.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from wtal.data.files import read_head, read_text
from wtal.errors import FormatError
from wtal.report.export_text import safe_cells
from wtal.report.imports import Mark, Reviewed, counted, mark

_HEADER = ["start", "end", "name"]
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", re.ASCII)
_SUFFIX = "-losslesscut"


def sniff(path: Path) -> bool:
    """Return whether the first line is the header, or a row of two times and a name."""
    first = next(csv.reader(read_head(path, 1 << 12).splitlines()[:1]), [])
    cells = [cell.strip() for cell in first[:3]]
    if path.suffix.lower() != ".csv" or len(cells) < 3:
        return False
    return [cell.lower() for cell in cells] == _HEADER or all(
        cell == "" or _CLOCK.fullmatch(cell) for cell in cells[:2]
    )


def read(path: Path) -> Sequence[Reviewed]:
    """Read the segments of one video; times in seconds or `[[hh:]mm:]ss.mmm`.

    Raises:
        FormatError: naming the line that is not a start, an end and a name.
    """
    marks = []
    lacking = {"segments without a name": 0, "segments without an end": 0}
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise FormatError(f"{path} is not a table of LosslessCut: {error}") from None
    for line, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row[:3]]
        if not any(cells) or (line == 1 and [cell.lower() for cell in cells] == _HEADER):
            continue
        where = f"{path}: row {line}"
        if len(cells) < 3:
            raise FormatError(f"{where}: wanted start, end and name, separated by commas, got {row!r}")
        if not cells[2]:
            lacking["segments without a name"] += 1
        elif not cells[1]:
            lacking["segments without an end"] += 1
        else:
            marks.append(_mark(cells, where))
    stem = path.stem.removesuffix(_SUFFIX)
    return [Reviewed(str(path.with_name(stem)), tuple(marks), (path.stem,), notes=counted(lacking))]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return labels with an apostrophe before those that a spreadsheet would run."""
    return list(safe_cells(labels).values())


def _mark(cells: Sequence[str], where: str) -> Mark:
    start = _seconds(cells[0], where) if cells[0] else 0.0
    return mark(start, _seconds(cells[1], where), cells[2], where)


def _seconds(text: str, where: str) -> float:
    clock = _CLOCK.fullmatch(text)
    if clock is None or len(text) > 30:
        raise FormatError(f"{where}: wanted seconds or hh:mm:ss.mmm, got {text!r}")
    hours, minutes, seconds = clock.groups(default="0")
    value = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return value if math.isfinite(value) else math.inf
