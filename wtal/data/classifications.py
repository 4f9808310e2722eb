"""Video-level scores from classification files in ActivityNet's layout.

`{"results": {video id: [{"label": .., "score": ..}]}}`: a detection file without segments.
"""

from pathlib import Path
from typing import Any

from wtal.data.detections import is_number
from wtal.data.files import read_json
from wtal.errors import FormatError
from wtal.refusals import written


def read_classifications(path: Path) -> dict[str, dict[str, float]]:
    """Read video id -> label -> score, in the file's order; a repeated label has its highest score.

    Raises:
        FormatError: when the file is malformed or has segments, naming the place in it.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise FormatError(f"{path}: wanted an object with 'results': video id -> list of labels with scores")
    scores_by_video: dict[str, dict[str, float]] = {}
    for video_id, entries in content["results"].items():
        where = f"{path}: results.{video_id}"
        if not isinstance(entries, list):
            raise FormatError(f"{where}: wanted a list, got {written(entries, by_hand=False)}")
        scores = scores_by_video.setdefault(video_id, {})
        for i, entry in enumerate(entries):
            label, score = _label_and_score(entry, f"{where}[{i}]")
            scores[label] = max(score, scores.get(label, score))
    return scores_by_video


def holds_classifications(path: Path) -> bool:
    """Return True if a file is JSON with results, none of which has a segment."""
    content = read_json(path) if path.suffix.lower() == ".json" else None
    results = content.get("results") if isinstance(content, dict) else None
    lists = [entries for entries in results.values() if isinstance(entries, list)] if isinstance(results, dict) else []
    entries = [entry for entries_of_video in lists for entry in entries_of_video if isinstance(entry, dict)]
    return bool(entries) and all("segment" not in entry for entry in entries)


def _label_and_score(entry: Any, where: str) -> tuple[str, float]:
    if not isinstance(entry, dict) or "segment" in entry:
        raise FormatError(f"{where}: wanted an object with label and score, without a segment, got {entry!r}")
    label, score = entry.get("label"), entry.get("score")
    if not isinstance(label, str):
        raise FormatError(f"{where}.label: wanted a string, got {label!r}")
    if not is_number(score):
        raise FormatError(f"{where}.score: wanted a finite number, got {score!r}")
    return label, float(entry["score"])
