"""Detections as a format can hold them: on its clock, disjoint where it wants that, and none too short."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wtal.data.segments import Detection
from wtal.errors import VideoError
from wtal.report.export_text import plain, unique
from wtal.report.exports import Export, ExportVideo
from wtal.report.selection import LONGEST, flattened, in_time, joined

_WANTED = {
    "file": "needs the video's file; name its folder with --videos",
    "rate": "needs a frame rate, and so the video's file; name its folder with --videos",
    "size": "needs the size of the picture, and so the video's file; name its folder with --videos",
    "duration": "needs the video's duration, and so its file; name its folder with --videos",
}


def fit(video: ExportVideo, export: Export, shown: Mapping[str, str]) -> tuple[ExportVideo, dict[str, int]]:
    """Return a video with the detections that a format can hold, and rule -> number of detections it changed.

    `shown` has for each label the text that formats without `exact` get.

    Raises:
        VideoError: when the format needs what is not known of the video.
    """
    _require(video, export)
    shift = float(video.start) if export.clock == "player" else 0.0
    detections = [
        replace(d, start=d.start + shift, end=d.end + shift, label=d.label if export.exact else shown[d.label])
        for d in video.detections
    ]
    disjoint, changes = _settled(detections, export)
    long = [d for d in disjoint if d.duration >= export.shortest]
    if len(long) < len(disjoint):
        changes[f"shorter than {export.shortest * 1000:g} ms, left out"] = len(disjoint) - len(long)
    return replace(video, detections=in_time(long)), changes


def shown_labels(labels: Sequence[str]) -> dict[str, str]:
    """Return label -> the text that is shown of it, different for different labels."""
    return dict(zip(labels, unique(map(plain, labels)), strict=True))


def _require(video: ExportVideo, export: Export) -> None:
    last = max((detection.end for detection in video.detections), default=0.0)
    if last > LONGEST:
        raise VideoError(f"a detection ends at second {last:g}, and no video is longer than {LONGEST:g} s")
    for need in export.needs:
        if need == "rate" and video.variable:
            raise VideoError("needs a constant frame rate, the file's is variable: frames there have no even numbers")
        if getattr(video, need) is None:
            raise VideoError(_WANTED[need])


def _settled(detections: list[Detection], export: Export) -> tuple[list[Detection], dict[str, int]]:
    if export.overlaps == "any":
        return detections, {}
    if export.overlaps == "none":
        flat = flattened(detections)
        cut = len(set(detections) - set(flat))
        return flat, {"overlapped by a surer one or touching one of their class, cut or joined": cut} if cut else {}
    disjoint = joined(detections)
    fewer = len(detections) - len(disjoint)
    return disjoint, {"overlapping or touching another of their class, joined to it": fewer} if fewer else {}
