"""Chapters as ffmpeg's metadata file: `ffmpeg -i VIDEO -i FILE -map_metadata 1 -codec copy OUT`."""

import re
from collections.abc import Sequence

from wtal.report.export_text import milliseconds
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="ffmpeg, and through it the chapter list of any player",
    suffix=".ffmetadata",
    lacks="overlaps (the best is kept), scores, times below a millisecond; a class `(other)`, as gaps are called in "
    "copies, becomes `(other) (2)`",
    overlaps="none",
    reserved=("(other)",),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one chapter per detection of one video; times in whole milliseconds."""
    (video,) = videos
    lines = [";FFMETADATA1"]
    for detection in video.detections:
        start, end = milliseconds(detection)
        title = re.sub(r"([=;#\\])", r"\\\1", detection.label)
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}", f"title={title}"]
    return Sheet("\n".join([*lines, ""]))
