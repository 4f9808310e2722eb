"""Playlist for VLC: each detection is an entry that plays from its start to its end."""

from collections.abc import Sequence

from wtal.report.export_text import seconds_text, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="VLC: a playlist over all videos; other players play whole files",
    suffix=".m3u8",
    lacks="files with a line break in their names",
    per="collection",
    needs=("file",),
    paths=True,
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one entry per detection, with start and stop in seconds."""
    lines = ["#EXTM3U"]
    for video in videos:
        for d in video.detections:
            lines += [
                f"#EXTVLCOPT:start-time={seconds_text(d.start)}",
                f"#EXTVLCOPT:stop-time={seconds_text(d.end)}",
                f"#EXTINF:-1,{titled(d)} - {video.name}",
                str(video.file),
            ]
    return Sheet("\n".join([*lines, ""]))
