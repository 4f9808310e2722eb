"""Comma-separated tables in all common forms: a header, any of three delimiters, quotes, a byte order mark.

A first line `sep=;`, as written by Excel, names the delimiter. Empty trailing columns, empty lines and lines of only
delimiters are skipped.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wtal.data.files import read_head, read_text
from wtal.errors import FormatError

_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(r'^"?sep=(.)"?[ ,;\t]*$', re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+):([0-5]?\d)|(\d+)):([0-5]?\d(?:\.\d*)?)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?|[-+]?(inf|infinity)|[-+]?nan", re.IGNORECASE | re.ASCII)
_DECIMAL = re.compile(r"[-+]?\d+([.,])\d+", re.ASCII)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)


def clock_seconds(text: str) -> float | None:
    """Return the seconds of a clock time, `1:03.5` or `1:02:03`; None for any other text."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, alone, seconds = match.groups(default="0")
    return int(hours) * 3600 + (int(minutes) + int(alone)) * 60 + float(seconds)


@dataclass(frozen=True)
class Table:
    """Column names in lower case, and the rows with their line numbers: (line, column -> stripped cell)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    delimiter: str = ","

    def number(self, cell: str, where: str, wanted: str = "seconds or a clock time") -> float:
        """Convert a cell to float, possibly NaN or infinite. `1:02.5` and `1:00:02.5` are clock times.

        The decimal sign is a point, or a comma in tables with another delimiter. In a table with both signs, three
        digits after one of them could be thousands.

        Raises:
            FormatError: when the cell is not a number or is ambiguous, naming `where` and what was `wanted`.
        """
        text = cell.replace(",", ".")
        ambiguous = "," in cell if self.delimiter == "," else _THOUSANDS.fullmatch(cell) and self._has_both_signs
        if ambiguous:
            whole = cell.replace("," if "," in cell else ".", "")
            raise FormatError(f"{where}: {cell!r} could be {cell.replace(',', '.', 1)} or {whole}; write one of them")
        if (seconds := clock_seconds(text)) is not None:
            return seconds
        if not _NUMBER.fullmatch(text):
            raise FormatError(f"{where}: wanted {wanted}, got {cell!r}")
        return float(text)

    @cached_property
    def _has_both_signs(self) -> bool:
        signs = {match[1] for _, row in self.rows for cell in row.values() if (match := _DECIMAL.fullmatch(cell))}
        return len(signs) == 2


@dataclass(frozen=True)
class _Header:
    delimiter: str
    columns: tuple[str, ...]
    lines: int
    """Number of lines up to and including the header."""


def is_table(path: Path, needed: Sequence[str]) -> bool:
    """Return True if the first line of the file is a header with all `needed` columns."""
    return _find_header(read_head(path, 1 << 16), needed) is not None


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Read a table whose header has the `needed` columns, in any order and among others.

    The delimiter is the comma, the semicolon or the tab, whichever splits the header into these columns.

    Raises:
        FormatError: when a column is missing, a row and the header differ in their cells, or a quote is not closed.
    """
    text = read_text(path)
    header = _find_header(text, needed)
    if header is None:
        first = next((line for line in text.splitlines() if line.strip()), "")
        raise FormatError(f"{path}: wanted a header with the columns {','.join(needed)}, got {first!r}")
    named = [name for name in header.columns if name]
    if len(set(named)) < len(named):
        raise FormatError(f"{path}: the header names a column twice: {','.join(header.columns)!r}")
    return Table(header.columns, tuple(_rows(path, text, header)), header.delimiter)


def _find_header(text: str, needed: Sequence[str]) -> _Header | None:
    marks = _DELIMITERS
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip(" ,;\t"):
            continue
        if separator := _SEPARATOR.match(line):
            marks = separator[1]
            continue
        for mark in marks:
            columns = _cells(line, mark)
            if set(needed) <= set(columns):
                return _Header(mark, columns, number)
        return None
    return None


def _rows(path: Path, text: str, header: _Header) -> list[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter, skipinitialspace=True, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if line > header.lines and any(cell.strip() for cell in cells):
                rows.append((before, _row(f"{path}: line {line}", cells, header, reader.line_num)))
    except csv.Error as error:
        unclosed = f"a quote that opens in line {before + 1} is not closed; double a quote that belongs to a cell"
        reason = unclosed if "unexpected end" in str(error) else str(error)
        raise FormatError(f"{path}: line {before + 1}: {reason}") from None
    return rows


def _row(where: str, cells: Sequence[str], header: _Header, last_line: int) -> dict[str, str]:
    stripped = [cell.strip() for cell in cells]
    if multiline := next((cell for cell in stripped if "\n" in cell or "\r" in cell), ""):
        raise FormatError(
            f"{where}: a quote that opens there is only closed in line {last_line}, in a cell that begins with "
            f"{multiline.splitlines()[0]!r}; close it, or double a quote that belongs to a cell"
        )
    width = len(header.columns)
    if len(stripped) < width or any(stripped[width:]):
        mark = {"\t": "tabs"}.get(header.delimiter, repr(header.delimiter))
        raise FormatError(
            f"{where} has {len(stripped)} cells, the header {width}; a cell that contains {mark} needs quotes"
        )
    row = dict(zip(header.columns, stripped, strict=False))
    if "" in header.columns:
        nameless = [cell for name, cell in zip(header.columns, stripped, strict=False) if not name and cell]
        if nameless:
            raise FormatError(f"{where}: cell {nameless[0]!r} is in a column without a name; name the column")
        del row[""]
    return row


def _cells(header: str, delimiter: str) -> tuple[str, ...]:
    cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return tuple(names)
