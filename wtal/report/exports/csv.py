"""Spreadsheet table: a row per detection, times as shown by players."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from wtal.report.export_text import clock_text, milliseconds, plain, safe_cell, safe_cells, score_text, seconds_text
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="spreadsheets: times as shown by players",
    suffix=".csv",
    lacks="videos without detections, times below a millisecond",
    per="collection",
    shortest=0.0,
)
_COLUMNS = ("video", "file", "label", "score", "start (s)", "end (s)", "duration (s)", "from", "to", "label check")


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return the table; a cell that a spreadsheet would run begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    cells = safe_cells(classes)
    for video in videos:
        writer.writerows(_rows(video, cells))
    return Sheet(text.getvalue())


def _rows(video: ExportVideo, cells: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    names = (safe_cell(plain(video.id)), safe_cell(plain(video.relative or video.name)) if video.file else "")
    for d in video.detections:
        seconds = (seconds_text(value) for value in (d.start, d.end, d.duration))
        verdict = video.verdicts.get(d.label, "")
        yield (*names, cells[d.label], score_text(d.score), *seconds, *map(clock_text, milliseconds(d)), verdict)
