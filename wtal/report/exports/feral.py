"""FERAL labels: a class per frame, all videos for inference."""

import json
from collections.abc import Sequence

from wtal.report.export_text import frame_span
from wtal.report.exports import Export, ExportVideo, Sheet

_NONE = "other"
"""Class 0, of frames outside all detections."""

EXPORT = Export(
    readers="FERAL: a class per frame",
    suffix="-feral.json",
    lacks="overlaps (the best is kept), scores, parts of a frame, detections shorter than half a frame, variable "
    "rates; a class `other` becomes `other (2)`",
    per="collection",
    overlaps="none",
    needs=("file", "rate", "duration"),
    clock="picture",
    reserved=(_NONE,),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return `class_names`, `labels` (file -> one number per frame) and `splits`.

    Class 0 is `other`. All videos are in the split `inference`: detections are not ground truth for training.
    """
    names = {"0": _NONE, **{str(number): label for number, label in enumerate(classes, 1)}}
    numbers = {label: number for number, label in enumerate(classes, 1)}
    labels = {video.relative or video.name: _frames(video, numbers) for video in videos}
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": [], "inference": list(labels)}
    return Sheet(json.dumps({"class_names": names, "labels": labels, "splits": splits}) + "\n")


def _frames(video: ExportVideo, numbers: dict[str, int]) -> list[int]:
    assert video.rate
    assert video.duration is not None
    frames = [0] * (video.frames or round(video.duration * video.rate))
    for detection in sorted(video.detections, key=lambda d: d.score):
        first, after = frame_span(detection, video.rate, least=0)
        after = min(after, len(frames))
        frames[first:after] = [numbers[detection.label]] * max(0, after - first)
    return frames
