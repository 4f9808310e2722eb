"""WebVTT: subtitles for web pages and players."""

import html
from collections.abc import Sequence

from wtal.report.export_text import clock_text, milliseconds, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="browsers, VLC, mpv: detections as subtitles",
    suffix=".vtt",
    lacks="times below a millisecond",
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one cue per detection of one video, its label and score as text."""
    (video,) = videos
    cues = []
    for detection in video.detections:
        start, end = map(clock_text, milliseconds(detection))
        cues.append(f"{start} --> {end}\n{html.escape(titled(detection), quote=False)}\n")
    return Sheet("\n".join(["WEBVTT\n", *cues]))
