"""A table `video,label[,start,end][,subset][,duration][,absent]`, one label or one segment per row.

A row without `start` and `end` means that the video shows the label somewhere. A row without a label means that the
video shows none of the classes: a known negative. `!label`, or the label in a column `absent`, means that this class
does not occur; for a video with no other rows the other classes are unknown. `video` is an id, or a file name or path,
whose id is the name without the extension; if files on several paths have the same name, it is the path without the
extension. Rows of one video are joined, also if its name is composed in one row and decomposed in another. The
delimiter is a comma, a semicolon or a tab; the header is required, its columns in any order. Times are seconds, or
clock times (`1:02.5`, `1:00:02.5`); the subset is `training` by default.
"""

import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path, PurePath

from wtal.data.assemble import DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.data.names import NamedId, plain_path
from wtal.data.parsing.table import Table, is_table, read_table
from wtal.data.video_ids import is_video_name, short_ids
from wtal.errors import FormatError

DEFAULT_SUBSET = "training"
NOT = "!"
"""Prefix of a label that the video does not show."""

_ALWAYS = ";|"
_JOINTS = (*_ALWAYS, ",", "/", "+", "&")
_NEEDED = ("video", "label")
_OPTIONAL = ("start", "end", "subset", "duration", "absent")


def sniff(path: Path) -> bool:
    """Return True if the first line is a header with `video` and `label`, and the file has no detections."""
    return is_table(path, _NEEDED) and not is_table(path, (*_NEEDED, "score"))


def read(path: Path) -> Dataset:
    """Read a table of labels.

    Raises:
        FormatError: when a value is missing or is not a number, naming the line.
    """
    table = read_table(path, _NEEDED)
    if ("start" in table.columns) != ("end" in table.columns):
        raise FormatError(f"{path}: columns start and end go together; the header has only one of them")
    builder = DatasetBuilder()
    for column in sorted(set(table.columns) - {*_NEEDED, *_OPTIONAL, ""}):
        builder.note("columns that are not used", column)
    ids = _ids(row["video"] for _, row in table.rows)
    labels = {row["label"] for _, row in table.rows} | {row.get("absent", "") for _, row in table.rows}
    for line, row in table.rows:
        where = f"{path}: line {line}"
        for label in (row["label"], row.get("absent", "")):
            _require_single(label, labels, where)
        builder.where = f"line {line}"
        _add_row(builder, ids[row["video"]], row, table, where)
    return builder.build()


def _require_single(label: str, labels: Collection[str], where: str) -> None:
    """Refuse a cell that names several labels."""
    for mark in _JOINTS:
        parts = [part.strip() for part in label.removeprefix(NOT).split(mark)]
        if len(parts) > 1 and (mark in _ALWAYS or all(part in labels for part in parts)):
            raise FormatError(f"{where}: {label!r} names several labels; write one row for each, {', '.join(parts)}")


def _add_row(builder: DatasetBuilder, video_id: str, row: dict[str, str], table: Table, where: str) -> None:
    label, duration = row["label"], row.get("duration", "")
    start, end = row.get("start", ""), row.get("end", "")
    if not video_id:
        raise FormatError(f"{where}: the video has no name")
    if bool(start) != bool(end) or (start and (not label or label.startswith(NOT))):
        raise FormatError(f"{where}: a segment needs label, start and end, got {label!r}, {start!r}, {end!r}")
    seconds = table.number(duration, f"{where}: duration") if duration else None
    builder.add_video(video_id, row.get("subset", "") or DEFAULT_SUBSET, seconds)
    if absent := row.get("absent", ""):
        builder.add_absent(video_id, absent)
    if start:
        first, last = table.number(start, f"{where}: start"), table.number(end, f"{where}: end")
        builder.add_segment(video_id, label, first, last)
    elif label.startswith(NOT):
        builder.add_absent(video_id, _named(label.removeprefix(NOT).strip(), where))
    elif label:
        builder.add_label(video_id, label)


def _named(label: str, where: str) -> str:
    if not label:
        raise FormatError(f"{where}: {NOT!r} needs a label after it, such as {NOT}jump; leave the cell empty for none")
    return label


def _ids(cells: Iterable[str]) -> dict[str, str]:
    """Map each cell to an id, which remembers the cell: for a file by the common rule, otherwise the cell itself.

    Cells that differ only in the composition of their letters are one video, named as in the first of them.
    """
    named: dict[str, str] = {}
    first = {cell: named.setdefault(unicodedata.normalize("NFC", cell), cell) for cell in cells}
    paths = {cell: PurePath(plain_path(cell) if "\\" in cell else cell) for cell in named.values()}
    ids = short_ids({path: PurePath(path.anchor) for path in paths.values() if is_video_name(path)})
    return {cell: NamedId(ids.get(paths[own], own), own) for cell, own in first.items()}
