"""FiftyOne temporal detections: the `labels.json` of a FiftyOneTemporalDetectionDataset."""

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from wtal.data.segments import Detection
from wtal.report.export_text import frame_span, unique
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="FiftyOne (dataset type FiftyOneTemporalDetectionDataset), which also edits intervals",
    suffix="-fiftyone.json",
    lacks="parts of a frame; without a constant rate, seconds replace frames",
    per="collection",
    clock="picture",
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return `classes` and `labels`: video -> detections with first and last frame, counted from 1.

    A video is identified by its file's name without extension, as in FiftyOne. Frames count from the first shown one.
    """
    keys = unique(
        PurePath(video.relative or video.name).with_suffix("").as_posix() if video.file else video.id
        for video in videos
    )
    numbers = {label: number for number, label in enumerate(classes)}
    labels = {
        key: [{"label": numbers[d.label], **_support(d, video), "confidence": d.score} for d in video.detections]
        for key, video in zip(keys, videos, strict=True)
    }
    return Sheet(json.dumps({"classes": list(classes), "labels": labels}, indent=2) + "\n")


def _support(detection: Detection, video: ExportVideo) -> dict[str, Any]:
    if video.rate is None:
        return {"timestamps": [detection.start, detection.end]}
    first, after = frame_span(detection, video.rate)
    return {"support": [first + 1, after]}
