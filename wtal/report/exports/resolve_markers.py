"""DaVinci Resolve markers: Timelines > Import > Timeline Markers from EDL."""

from collections.abc import Sequence

from wtal.data.segments import Detection
from wtal.report.export_text import frame_span, plain, respelled, timecode, titled, whole_rate
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="DaVinci Resolve: markers on a timeline at the video's rate, starting at 01:00:00:00",
    suffix="-markers.edl",
    lacks="two markers at one frame (the best is kept), variable and odd rates; | in labels becomes /",
    needs=("rate",),
)
_COLORS = ("Blue", "Green", "Yellow", "Red", "Pink", "Purple", "Cyan", "Fuchsia", "Rose", "Sky", "Mint", "Lemon")


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return two lines per detection of one video: the frame plus one hour, and colour, label and duration.

    Raises:
        VideoError: when timecodes cannot count in the video's rate.
    """
    (video,) = videos
    assert video.rate is not None
    nominal = whole_rate(video.rate)
    markers: dict[int, tuple[Detection, int]] = {}
    for d in sorted(video.detections, key=lambda d: -d.score):
        first, after = frame_span(d, video.rate)
        markers.setdefault(first, (d, after - first))
    names = respelled(classes, lambda label: label.replace("|", "/"))
    lines = [f"TITLE: {plain(video.name)}", "FCM: NON-DROP FRAME", ""]
    for number, (first, (d, length)) in enumerate(sorted(markers.items()), 1):
        begin, end = (timecode(3600 * nominal + frame, nominal) for frame in (first, first + 1))
        color = _COLORS[classes.index(d.label) % len(_COLORS)]
        lines += [
            f"{number:03d}  001      V     C        {begin} {end} {begin} {end}  ",
            f" |C:ResolveColor{color} |M:{titled(d, names)} |D:{length}",
            "",
        ]
    left = len(video.detections) - len(markers)
    return Sheet("\n".join(lines), (f"{left} that begin at the frame of a better one, left out",) if left else ())
