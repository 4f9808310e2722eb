"""OpenTimelineIO: detections in sequence, for Premiere 25, Resolve and LosslessCut."""

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from wtal.report.export_text import frame_span, plain, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Premiere 25, Resolve, LosslessCut: a reel of one video's detections",
    suffix=".otio",
    lacks="gaps between detections (LosslessCut rejects files with gaps), sound, variable rates",
    needs=("file", "rate", "duration"),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one clip per detection of one video; times in frames at its rate."""
    (video,) = videos
    assert video.rate
    assert video.file
    assert video.end is not None
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": plain(video.name),
        "target_url": video.file.as_uri(),
        "available_range": _range(0, max(1, round(Fraction(video.end) * video.rate)), video.rate),
        "metadata": {},
    }
    clips = [
        {
            "OTIO_SCHEMA": "Clip.2",
            "name": titled(d),
            "source_range": _range(*frame_span(d, video.rate), video.rate),
            "media_references": {"DEFAULT_MEDIA": reference},
            "active_media_reference_key": "DEFAULT_MEDIA",
            "enabled": True,
            "effects": [],
            "markers": [],
            "metadata": {"wtal": {"label": d.label, "score": d.score}},
        }
        for d in video.detections
    ]
    track = {**_named("Track.1", "V1", clips), "kind": "Video", "source_range": None}
    stack = {**_named("Stack.1", "tracks", [track]), "source_range": None}
    timeline = {
        "OTIO_SCHEMA": "Timeline.1",
        "name": plain(video.name),
        "global_start_time": None,
        "tracks": stack,
        "metadata": {},
    }
    return Sheet(json.dumps(timeline, indent=2) + "\n")


def _named(schema: str, name: str, children: list[Any]) -> dict[str, Any]:
    return {"OTIO_SCHEMA": schema, "name": name, "children": children, "effects": [], "markers": [], "metadata": {}}


def _range(first: int, after: int, rate: Fraction) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(first)},
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(after - first)},
    }
