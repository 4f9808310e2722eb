"""DeepEthogram labels: a column per behaviour, a row per frame."""

import csv
import io
from collections.abc import Sequence

from wtal.report.export_text import frame_span, safe_cells
from wtal.report.exports import Export, ExportVideo, Sheet

_NONE = "background"
"""Column of frames without a class."""

EXPORT = Export(
    readers="DeepEthogram: labels to finalize",
    suffix="_labels.csv",
    lacks="scores, parts of a frame, detections shorter than half a frame, variable rates; "
    "a class `background` becomes `background (2)`",
    needs=("rate", "duration"),
    clock="picture",
    reserved=(_NONE,),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return a table of one video: index of the frame from 0, `background`, and a column per class.

    A frame inside a detection has 1 in its classes and 0 elsewhere. A frame outside all detections has -1 everywhere,
    which means not looked at, so no video counts as finalized until a user finalizes it.
    """
    (video,) = videos
    assert video.rate
    assert video.duration is not None
    count = video.frames or round(video.duration * video.rate)
    shown: list[set[str]] = [set() for _ in range(count)]
    for detection in video.detections:
        first, after = frame_span(detection, video.rate, least=0)
        for labels in shown[first:after]:
            labels.add(detection.label)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("", _NONE, *safe_cells(classes).values()))
    for frame, labels in enumerate(shown):
        row = [0, *(int(label in labels) for label in classes)] if labels else [-1] * (1 + len(classes))
        writer.writerow((frame, *row))
    return Sheet(text.getvalue())
