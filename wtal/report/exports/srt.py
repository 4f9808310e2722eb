"""SubRip subtitles: for every player, and for LosslessCut's import."""

from collections.abc import Sequence

from wtal.report.export_text import clock_text, milliseconds, respelled, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="every player, LosslessCut by import: detections as subtitles",
    suffix=".srt",
    lacks="times below a millisecond; angle and curly brackets in labels, which are markup, become round",
)
_NO_MARKUP = str.maketrans("<>{}", "()()")


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one numbered entry per detection of one video, its label and score as text; lines end in CR LF."""
    (video,) = videos
    names = respelled(classes, lambda label: label.translate(_NO_MARKUP))
    lines = []
    for number, detection in enumerate(video.detections, 1):
        start, end = (clock_text(value, ",") for value in milliseconds(detection))
        lines += [str(number), f"{start} --> {end}", titled(detection, names), ""]
    return Sheet("".join(f"{line}\r\n" for line in lines))
