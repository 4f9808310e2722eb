"""Playlist for VLC: each detection is an entry that plays from its start to its end."""

from collections.abc import Sequence

from wtal.errors import VideoError
from wtal.report.export_text import seconds_text, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="VLC: a playlist over all videos; other players play whole files",
    suffix=".m3u8",
    lacks="files with a line break in their names",
    per="collection",
    needs=("file",),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one entry per detection, with start and stop in seconds.

    Raises:
        VideoError: when the name of a file contains a line break, which a playlist cannot represent.
    """
    lines = ["#EXTM3U"]
    for video in videos:
        if len(str(video.file).splitlines()) > 1:
            raise VideoError(f"a playlist cannot include {video.id!r}: its file name contains a line break")
        for d in video.detections:
            lines += [
                f"#EXTVLCOPT:start-time={seconds_text(d.start)}",
                f"#EXTVLCOPT:stop-time={seconds_text(d.end)}",
                f"#EXTINF:-1,{titled(d)} - {video.name}",
                str(video.file),
            ]
    return Sheet("\n".join([*lines, ""]))
