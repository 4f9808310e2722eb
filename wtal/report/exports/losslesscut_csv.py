"""LosslessCut segments as a table: File > Import."""

import csv
import io
from collections.abc import Sequence

from wtal.report.export_text import safe_cells, score_text, seconds_text
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="LosslessCut, by import",
    suffix="-losslesscut.csv",
    lacks="times below a millisecond",
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return `Start,End,Name,score` of one video; times in seconds with three decimals."""
    (video,) = videos
    cells = safe_cells(classes)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("Start", "End", "Name", "score"))
    writer.writerows(
        (seconds_text(d.start), seconds_text(d.end), cells[d.label], score_text(d.score)) for d in video.detections
    )
    return Sheet(text.getvalue())
