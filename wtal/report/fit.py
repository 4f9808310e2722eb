"""Fit detections to a format: on its clock, disjoint if required, and none too short."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wtal.data.segments import Detection
from wtal.errors import VideoError
from wtal.report.export_text import plain, unique
from wtal.report.exports import Export, ExportVideo
from wtal.report.selection import LONGEST, flattened, in_time, joined

_WANTED = {
    "file": "needs the video's file; give its folder with --videos",
    "rate": "needs a frame rate from the video's file; give its folder with --videos",
    "size": "needs the picture size from the video's file; give its folder with --videos",
    "duration": "needs the video's duration from its file; give its folder with --videos",
}


def fit(video: ExportVideo, export: Export, shown: Mapping[str, str]) -> tuple[ExportVideo, dict[str, int]]:
    """Return a video with detections fitted to a format, and rule -> number of detections changed.

    `shown` maps each label to its text in formats without `exact`.

    Raises:
        VideoError: when a fact required by the format is unknown, or a path must be one line and is not.
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


def shown_labels(labels: Sequence[str], reserved: Sequence[str] = ()) -> dict[str, str]:
    """Return label -> its displayed text, distinct for distinct labels and from the `reserved` names of a format."""
    return dict(zip(labels, unique(map(plain, labels), reserved), strict=True))


def _require(video: ExportVideo, export: Export) -> None:
    last = max((detection.end for detection in video.detections), default=0.0)
    if last > LONGEST:
        raise VideoError(f"a detection ends at second {last:g}, but no video is longer than {LONGEST:g} s")
    for need in export.needs:
        if need == "rate" and video.variable:
            raise VideoError("needs a constant frame rate, but the file has a variable one")
        if getattr(video, need) is None:
            raise VideoError(_WANTED[need])
    if export.paths and len(str(video.file).splitlines()) > 1:
        raise VideoError("a playlist cannot include it: the path of its file contains a line break")


def _settled(detections: list[Detection], export: Export) -> tuple[list[Detection], dict[str, int]]:
    if export.overlaps == "any":
        return detections, {}
    if export.overlaps == "none":
        flat = flattened(detections)
        cut = len(set(detections) - set(flat))
        return flat, {"overlapped by a better one or touching one of their class, cut or joined": cut} if cut else {}
    disjoint = joined(detections)
    fewer = len(detections) - len(disjoint)
    return disjoint, {"overlapping or touching another of their class, joined with it": fewer} if fewer else {}
