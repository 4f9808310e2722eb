"""Label Studio tasks with predictions on the timeline (`<Video frameRate="$fps">`, `<TimelineLabels>`)."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from wtal.data.segments import Detection
from wtal.report.export_text import frame_span
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Label Studio: tasks of a project with TimelineLabels",
    suffix="-label-studio.json",
    lacks="parts of a frame, variable rates; a project should hold videos of one rate",
    per="collection",
    needs=("file", "rate"),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one task per video with one region per detection; frames count from 1, both ends inclusive.

    Videos are given by their path in the folder served by Label Studio (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT).
    """
    rates = sorted({float(video.rate) for video in videos if video.rate})
    listed = ", ".join(f"{rate:.6g}" for rate in rates)
    note = f"frame rates differ ({listed}): import each rate into a separate project, or times will be misread"
    text = json.dumps([_task(video) for video in videos], indent=2)
    return Sheet(text + "\n", (note,) if len(rates) > 1 else ())


def _task(video: ExportVideo) -> dict[str, Any]:
    assert video.rate
    regions = [_region(f"d{number}", d, video) for number, d in enumerate(video.detections, 1)]
    prediction: dict[str, Any] = {"model_version": "wtal", "result": regions}
    if video.detections:
        prediction["score"] = max(d.score for d in video.detections)
    path = quote(video.relative or video.name, errors="surrogateescape")
    data = {"video": f"/data/local-files/?d={path}", "fps": float(video.rate)}
    return {"data": data, "predictions": [prediction]}


def _region(key: str, detection: Detection, video: ExportVideo) -> dict[str, Any]:
    first, after = frame_span(detection, video.rate)
    return {
        "id": key,
        "from_name": "label",
        "to_name": "video",
        "type": "timelinelabels",
        "score": detection.score,
        "value": {"ranges": [{"start": first + 1, "end": after}], "timelinelabels": [detection.label]},
    }
