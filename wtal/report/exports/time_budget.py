"""Time budget for behaviour scientists: the share of each class in each video."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from wtal.report.export_text import plain, safe_cell, safe_cells, seconds_text
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="spreadsheets and statistics: a row per video and class",
    suffix="-time-budget.csv",
    lacks="the detections themselves, scores; overlaps of one class (joined)",
    per="collection",
    overlaps="classes",
)
_COLUMNS = (
    "video",
    "label",
    "count",
    "total (s)",
    "mean (s)",
    "latency (s)",
    "duration (s)",
    "share of the duration",
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return a row per video and class, including absent classes: count and total are then 0, the others empty.

    `latency` is the time from the first picture to the first detection. If a video's duration is unknown, its duration
    and shares are empty.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    cells = safe_cells(classes)
    for video in videos:
        writer.writerows(_rows(video, cells))
    unknown = sum(video.duration is None for video in videos)
    note = f"{unknown} videos of unknown duration have empty shares; give their folder with --videos"
    return Sheet(text.getvalue(), (note,) if unknown else ())


def _rows(video: ExportVideo, cells: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for label, cell in cells.items():
        own = [detection for detection in video.detections if detection.label == label]
        total = sum(detection.duration for detection in own)
        latency = min((detection.start for detection in own), default=0.0) - float(video.start)
        yield (
            safe_cell(plain(video.id)),
            cell,
            str(len(own)),
            seconds_text(total),
            seconds_text(total / len(own)) if own else "",
            seconds_text(latency) if own else "",
            "" if video.duration is None else seconds_text(video.duration),
            f"{total / video.duration:.4f}" if video.duration else "",
        )
