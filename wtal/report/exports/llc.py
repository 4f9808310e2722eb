"""LosslessCut project, opened automatically with the video next to it."""

import json
from collections.abc import Sequence

from wtal.report.export_text import score_text
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="LosslessCut, opened with the video",
    suffix="-proj.llc",
    lacks="nothing (scores become tags)",
    needs=("file",),
    beside=True,
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return the project of one video; times in seconds."""
    (video,) = videos
    cuts = [
        {
            "start": round(d.start, 6),
            "end": round(d.end, 6),
            "name": d.label,
            "tags": {"score": score_text(d.score)},
            "selected": True,
        }
        for d in video.detections
    ]
    return Sheet(json.dumps({"version": 2, "mediaFileName": video.name, "cutSegments": cuts}, indent=2) + "\n")
