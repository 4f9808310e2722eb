"""Detection files: ActivityNet's results JSON, and a table for people.

JSON: `{"version": .., "results": {video id: [{"label": .., "score": .., "segment": [start, end]}]}, "external_data":
..}`, of which only `results` is required for reading. Table: `video,label,start,end,score`. All times are in seconds.
"""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from wtal.data.files import write_atomic, write_json
from wtal.data.names import match_ids
from wtal.data.parsing.json_keys import require_whole
from wtal.data.parsing.json_stream import JsonStream
from wtal.data.parsing.table import is_table, read_table
from wtal.data.regular import require_regular
from wtal.data.segments import Detection
from wtal.errors import FormatError, WrongKindError
from wtal.refusals import shortened, written

_MOST = sys.float_info.max
_TAIL = 1 << 16
"""Bytes at the end of a file that include its origin."""

_NAMED = 5
"""Maximum number of keys named in an error."""
BEGINS = "begins"
"""Key of an origin: video -> second of its first frame, if that is not 0."""
COLUMNS = ("video", "label", "start", "end", "score")
"""Columns of the table, in order."""


def read_detections(path: Path) -> dict[str, list[Detection]]:
    """Read detections (seconds) from results JSON or from a table, detected by content, in the file's order.

    Raises:
        FormatError: when the file is malformed, naming the place in it (`results.VIDEO[3].segment`).
    """
    return read_results(path)[0]


def read_results(path: Path) -> tuple[dict[str, list[Detection]], dict[str, Any]]:
    """Read detections, and all other content of the file by key; a table has none.

    Raises:
        FormatError: as in `read_detections`.
    """
    if is_table(path, COLUMNS):
        return _read_table(path), {}
    with JsonStream.open(path) as stream:
        return _read_json(stream, str(path))


def write_detections(
    detections: Mapping[str, Sequence[Detection]],
    path: Path,
    details: str = "",
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Write detections (seconds), as a table if the name ends in `.csv`, else as results JSON; return `path`.

    A table has no row for a video without detections, and so loses it; JSON keeps it. `details` describes data used in
    addition to the collection; `origin` (JSON types) is the origin of the detections, under the key `wtal`.
    """
    if path.suffix.lower() == ".csv":
        return _write_table(detections, path)
    results = {video_id: [to_json(detection) for detection in segments] for video_id, segments in detections.items()}
    external = {"used": bool(details), "details": details}
    content = {"version": "wtal", "results": results, "external_data": external, "wtal": dict(origin or {})}
    return write_json(path, content, indent=None)


def begins_of(seconds: Mapping[str, float | Fraction]) -> dict[str, Any]:
    """Return the part of an origin with the seconds of first frames that are not 0, from video -> second.

    Detections of these videos count from the beginning of the file, as in players, not from the first frame.
    """
    begins = {key: float(second) for key, second in seconds.items() if second}
    return {BEGINS: begins} if begins else {}


def read_made(path: Path) -> dict[str, Any]:
    """Read the origin of a file's detections, as written by `write_detections`; empty if the file has none.

    Only the end of a file is read, unless its origin is elsewhere.

    Raises:
        FormatError: when such a file cannot be read, or its seconds of first frames are not numbers.
    """
    require_regular(path)
    origin = _origin_at_end(path)
    if not origin and not is_table(path, COLUMNS) and _mentions(path, '"wtal"'):
        elsewhere = read_results(path)[1].get("wtal")
        origin = elsewhere if isinstance(elsewhere, dict) else {}
    begins = origin.get(BEGINS, {})
    if not isinstance(begins, dict) or not all(map(is_number, begins.values())):
        raise FormatError(
            f"{path}: wtal.{BEGINS} must be an object of video and second, got {shortened(begins)}; detect again"
        )
    return origin


def verdicts_of(stamps: Mapping[str, Any]) -> dict[str, str]:
    """Return class -> verdict of the label check, from the origin read by `read_made`; empty without a check."""
    verdicts = stamps.get("label_check")
    return {label: str(verdict) for label, verdict in verdicts.items()} if isinstance(verdicts, dict) else {}


def _mentions(path: Path, word: str) -> bool:
    content = path.read_bytes()
    return any(word.encode(encoding) in content for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def _origin_at_end(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read().decode("utf-8", "replace")
    _, key, rest = tail.rpartition('"wtal":')
    try:
        origin, end = json.JSONDecoder().raw_decode(rest.lstrip()) if key else ({}, 0)
    except ValueError:
        return {}
    except RecursionError:
        raise FormatError(f"{path}: wtal is nested too deeply; detect again") from None
    closed = rest.lstrip()[end:].split() == ["}"]
    return origin if closed and isinstance(origin, dict) else {}


def to_json(detection: Detection) -> dict[str, Any]:
    """Convert one detection to the results layout."""
    return {
        "label": detection.label,
        "score": float(detection.score),
        "segment": [float(detection.start), float(detection.end)],
    }


def is_number(value: object) -> bool:
    """Return True if a JSON value is a finite number, not a boolean, string, NaN or infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST


def align_ids(
    detections: Mapping[str, Sequence[Detection]], video_ids: Iterable[str]
) -> dict[str, Sequence[Detection]]:
    """Rename detections to the ids in `video_ids` that denote the same videos; others keep their own."""
    renamed = {own_id: video_id for video_id, own_id in match_ids(video_ids, detections).items()}
    return {renamed.get(video_id, video_id): segments for video_id, segments in detections.items()}


def _read_json(stream: JsonStream, where: str) -> tuple[dict[str, list[Detection]], dict[str, Any]]:
    results: dict[str, list[Detection]] | None = None
    rest: dict[str, Any] = {}
    if stream.peek() != "{":
        stream.value()
    else:
        places: dict[str, int] = {}
        for key in stream.members():
            if key in places:
                raise stream.repeated(repr(key), places[key])
            places[key] = stream.key_at
            if key != "results" or stream.peek() != "{":
                rest[key] = stream.value()
            else:
                results = _parse_videos(stream, where)
    stream.end()
    if results is None:
        raise WrongKindError(
            f"{where}: wanted an object with 'results': video id -> list of detections, got {_came(rest)}"
        )
    return results, rest


def _parse_videos(stream: JsonStream, where: str) -> dict[str, list[Detection]]:
    results: dict[str, list[Detection]] = {}
    places: dict[str, int] = {}
    labels: set[str] = set()
    for video_id in stream.members():
        if video_id in results:
            raise stream.repeated(f"results.{video_id}", places[video_id])
        places[video_id] = stream.key_at
        results[video_id] = _parse_video(stream.value(), f"{where}: results.{video_id}")
        new = {detection.label for detection in results[video_id]} - labels
        _require_whole([video_id, *new], where)
        labels |= new
    return results


def _require_whole(names: Sequence[str], where: str) -> None:
    try:
        require_whole(names)
    except ValueError as error:
        raise FormatError(f"{where} cannot be used: {error}") from None


def _parse_video(entries: Any, where: str) -> list[Detection]:
    if not isinstance(entries, list):
        raise FormatError(f"{where}: wanted a list of detections, got {written(entries, by_hand=False)}")
    return [_plain(entry) or _parse(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]


def _plain(entry: Any) -> Detection | None:
    """Return the detection of an entry whose numbers are all floats, as in most files; None if `_parse` must look."""
    try:
        label, score, (start, end) = entry["label"], entry["score"], entry["segment"]
    except (KeyError, TypeError, ValueError):
        return None
    if not (type(label) is str and type(start) is type(end) is type(score) is float):
        return None
    return Detection(start, end, label, score) if -_MOST <= start <= end <= _MOST and -_MOST <= score <= _MOST else None


def _parse(entry: Any, where: str) -> Detection:
    if not isinstance(entry, dict):
        raise FormatError(f"{where}: wanted an object with label, score and segment, got {entry!r}")
    label, score, segment = entry.get("label"), entry.get("score"), entry.get("segment")
    if segment is None:
        raise FormatError(f"{where}.segment is missing; a file without segments holds classifications")
    if not isinstance(label, str):
        raise FormatError(f"{where}.label: wanted a string, got {label!r}")
    if not is_number(score):
        raise FormatError(f"{where}.score: wanted a finite number, got {score!r}")
    if not (isinstance(segment, list) and len(segment) == 2 and all(map(is_number, segment))):
        raise FormatError(f"{where}.segment: wanted two finite numbers of seconds, got {segment!r}")
    if segment[1] < segment[0]:
        raise FormatError(f"{where}.segment: it ends before it begins: {segment!r}")
    return Detection(float(segment[0]), float(segment[1]), label, float(entry["score"]))


def _read_table(path: Path) -> dict[str, list[Detection]]:
    detections: dict[str, list[Detection]] = {}
    table = read_table(path, COLUMNS)
    for line, row in table.rows:
        where = f"{path}: line {line}"
        start, end = (table.number(row[name], f"{where}: {name}") for name in ("start", "end"))
        score = table.number(row["score"], f"{where}: score", "a number")
        if not all(map(math.isfinite, (start, end, score))) or end < start:
            raise FormatError(f"{where}: wanted finite start <= end and score, got {start}, {end}, {score}")
        detections.setdefault(row["video"], []).append(Detection(start, end, row["label"], score))
    return detections


def _write_table(detections: Mapping[str, Sequence[Detection]], path: Path) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for video_id, segments in detections.items():
        writer.writerows((video_id, d.label, float(d.start), float(d.end), float(d.score)) for d in segments)
    return write_atomic(path, text.getvalue().encode(errors="backslashreplace"))


def _came(rest: Mapping[str, Any]) -> str:
    """Name the content of a file by its keys."""
    if "database" in rest:
        return "annotations"
    if "looked_at" in rest:
        return "verdicts, which wtal review import reads"
    if "results" in rest:
        return f"{written(rest['results'], by_hand=False)} as 'results'"
    return f"the keys {', '.join(list(rest)[:_NAMED])}" if rest else "none"
