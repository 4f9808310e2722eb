"""Kodi scene markers: an `.edl` next to the video, only of type 2, which neither cuts nor skips."""

from collections.abc import Sequence

from wtal.report.export_text import seconds_text
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Kodi, opened with the video",
    suffix=".edl",
    lacks="ends, labels and scores: a marker is an instant",
    needs=("file",),
    beside=True,
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one line `start start 2` per detection of one video; seconds with three decimals.

    Kodi places the marker at the second number (`CEdl::ReadMPlayer`), so both are the start.
    """
    (video,) = videos
    starts = dict.fromkeys(seconds_text(d.start) for d in video.detections)
    return Sheet("".join(f"{start} {start} 2\n" for start in starts))
