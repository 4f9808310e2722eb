"""Comma-separated tables as people save them: a header, any of three delimiters, quotes, a byte order mark."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wtal.data.files import read_head, read_text
from wtal.errors import FormatError

_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Column names in lower case, and the rows with their line numbers: (line, column -> stripped cell)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def is_table(path: Path, needed: Sequence[str]) -> bool:
    """Tell whether the first line of the file is a header that has all the `needed` columns."""
    head = read_head(path, 1 << 16).splitlines()
    return bool(head) and any(set(needed) <= set(_cells(head[0], delimiter)) for delimiter in _DELIMITERS)


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Read a table whose header has the `needed` columns, in any order and among others.

    The delimiter is the comma, the semicolon or the tabulator, whichever splits the header into these columns. Empty
    lines are passed over.

    Raises:
        FormatError: when a column is missing or a row has another number of cells than the header.
    """
    lines = read_text(path)
    header = lines.splitlines()[0] if lines.strip() else ""
    fitting = [mark for mark in _DELIMITERS if set(needed) <= set(_cells(header, mark))]
    if not fitting:
        raise FormatError(f"{path}: wanted a header with the columns {','.join(needed)}, got {header!r}")
    columns = _cells(header, fitting[0])
    if len(set(columns)) < len(columns):
        raise FormatError(f"{path}: the header names a column twice: {header!r}")
    return Table(columns, tuple(_rows(path, lines, fitting[0], columns)))


def _rows(path: Path, lines: str, delimiter: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for i, cells in enumerate(reader):
            if i == 0 or not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise FormatError(f"{path}: line {reader.line_num} has {len(cells)} cells, the header {len(columns)}")
            rows.append((reader.line_num, {c: cell.strip() for c, cell in zip(columns, cells, strict=True)}))
    except csv.Error as error:
        raise FormatError(f"{path}: line {reader.line_num}: {error}") from None
    return rows


def parse_number(cell: str, where: str) -> float:
    """A cell with a number (decimal point or comma) -> float; it may be NaN or infinite.

    Raises:
        FormatError: naming `where`, when the cell is not a number.
    """
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        raise FormatError(f"{where}: wanted a number, got {cell!r}") from None


def _cells(header: str, delimiter: str) -> tuple[str, ...]:
    cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    return tuple(cell.strip().lower() for cell in cells)
