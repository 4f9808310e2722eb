"""BORIS project: an observation per video, a state event per detection."""

import json
import string
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from wtal.report.export_text import boris_codes, milliseconds, score_text, unique
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="BORIS: a project with an observation per video",
    suffix=".boris",
    lacks="overlaps of one class (joined), times below a millisecond; | and , in labels become _",
    per="collection",
    overlaps="classes",
    needs=("file", "duration"),
)
_DATE = "1970-01-01T00:00:00"
_KEYS = string.ascii_lowercase + string.digits


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return the project; times in seconds with three decimals, the score as an event's comment."""
    codes = boris_codes(classes)
    names = unique(video.id for video in videos)
    project = {
        "time_format": "hh:mm:ss",
        "project_date": _DATE,
        "project_name": "wtal",
        "project_description": "detections by wtal; the comments of the events are their scores",
        "project_format_version": "7.0",
        "subjects_conf": {},
        "behaviors_conf": {
            str(number): _behaviour(key or "", code)
            for number, (code, key) in enumerate(zip_longest(codes.values(), _KEYS[: len(codes)]))
        },
        "observations": {name: _observation(video, codes) for name, video in zip(names, videos, strict=True)},
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    note = f"{len(codes) - len(_KEYS)} classes without a key, because BORIS has only {len(_KEYS)} plain keys"
    return Sheet(json.dumps(project, indent=1) + "\n", (note,) if len(codes) > len(_KEYS) else ())


def _behaviour(key: str, code: str) -> dict[str, Any]:
    return {
        "type": "State event",
        "key": key,
        "code": code,
        "description": "",
        "category": "",
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }


def _observation(video: ExportVideo, codes: dict[str, str]) -> dict[str, Any]:
    path = str(video.file)
    return {
        "type": "MEDIA",
        "date": _DATE,
        "description": "",
        "file": {"1": [path], **{str(player): [] for player in range(2, 9)}},
        "time offset": 0.0,
        "independent_variables": {},
        "close_behaviors_between_videos": False,
        "visualize_spectrogram": False,
        "media_info": {
            "length": {path: video.end},
            "fps": {path: float(video.rate)} if video.rate else {},
            "hasVideo": {path: True},
            "hasAudio": {path: video.sound},
            "offset": {"1": 0.0},
        },
        "events": _events(video, codes),
    }


def _events(video: ExportVideo, codes: dict[str, str]) -> list[list[Any]]:
    """Return two rows per detection, start and stop, sorted by time; a stop precedes any start at the same time."""
    rows = []
    for detection in video.detections:
        for order, time in zip((1, 0), milliseconds(detection), strict=True):
            rows.append((time, order, codes[detection.label], score_text(detection.score)))
    return [
        [time / 1000, "", code, "", f"score {score}", round(time * video.rate / 1000) if video.rate else "NA"]
        for time, _, code, score in sorted(rows)
    ]
