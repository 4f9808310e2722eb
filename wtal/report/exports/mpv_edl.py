"""mpv timeline: all detections as one reel over many files, without encoding."""

from collections.abc import Sequence

from wtal.errors import VideoError
from wtal.report.export_text import seconds_text, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="mpv: one reel over all videos",
    suffix="-mpv.edl",
    lacks="gaps between detections, empty reels",
    per="collection",
    needs=("file",),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one line `FILE,start,length,title` per detection.

    mpv seeks on the file's own clock, not on the displayed one (`demux_edl.c` begins a part without a start at the
    demuxer's start time), so the file's start is added. Names and titles are preceded by their length in bytes.

    Raises:
        VideoError: when there is no detection, as mpv rejects empty reels.
    """
    lines = [
        f"{_quoted(str(video.file))},{seconds_text(d.start + float(video.file_start))},"
        f"{seconds_text(max(0.001, d.duration))},title={_quoted(titled(d))}\n"
        for video in videos
        for d in video.detections
    ]
    if not lines:
        raise VideoError("there are no detections, and mpv cannot play an empty reel")
    return Sheet("".join(["# mpv EDL v0\n", *lines]))


def _quoted(text: str) -> str:
    return f"%{len(text.encode('utf-8', 'surrogateescape'))}%{text}"
