"""Challenge submissions, built from detections; what a challenge would refuse is known to `submission_check`."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from wtal.data.names import bare_id, match_ids
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval.challenges import load_challenge

NO_EXTERNAL_DATA = {"used": False, "details": ""}
"""What `external_data` says when nothing else is known."""

SECOND_DIGITS = 3
"""Digits of a second behind the point: a frame lasts tens of milliseconds."""

SCORE_DIGITS = 9
"""Significant digits of a score: as many as tell any two single-precision numbers apart."""

ResultEntry = dict[str, Any]


def build_submission(
    detections: Mapping[str, Sequence[Detection]],
    challenge: str,
    durations: Mapping[str, float | None],
    external_data: Mapping[str, Any] = NO_EXTERNAL_DATA,
    results_only: bool = False,
    most: int | None = None,
) -> dict[str, Any]:
    """Detections (seconds) by video id -> the JSON value that the challenge takes; `submission_results` has the rules.

    Raises:
        UsageError: when there is no such challenge, when two ids are one without `v_`, or when a score is not finite.
    """
    head = submission_head(challenge, external_data, results_only)
    return {**head, "results": dict(submission_results(detections, challenge, durations, most))}


def submission_head(challenge: str, external_data: Mapping[str, Any], results_only: bool) -> dict[str, Any]:
    """All of the JSON value but its results, which stand empty where they belong."""
    rules = load_challenge(challenge)
    if results_only:
        return {"results": {}}
    return {"version": rules.version, "results": {}, "external_data": dict(external_data)}


def submission_results(
    detections: Mapping[str, Sequence[Detection]],
    challenge: str,
    durations: Mapping[str, float | None],
    most: int | None = None,
) -> Iterator[tuple[str, list[ResultEntry]]]:
    """Detections (seconds) by video id -> (id, entries) of the submission, in order of the given ids.

    Ids lose their `v_`. Segments are cut to their video, rounded to milliseconds inside of it, and dropped where
    nothing is left. `durations` has seconds by video id, with or without `v_`; a video that it lacks is cut at second 0
    only. The entries of a video are by descending score, at most `most` and at most what the challenge takes.

    Raises:
        UsageError: as `build_submission`.
    """
    cap = most_per_video(challenge, most)
    matches, seen = match_ids(detections, durations), set()
    for video_id in sorted(detections):
        name = bare_id(video_id)
        if name in seen:
            raise UsageError(f"two videos are {name!r} without 'v_'; give each video one id")
        seen.add(name)
        duration = durations[matches[video_id]] if video_id in matches else None
        yield name, _entries(video_id, detections[video_id], duration)[:cap]


def most_per_video(challenge: str, most: int | None = None) -> int | None:
    """Return the limit of detections per video: `most`, or the challenge's own where that is lower; None is all."""
    return min((cap for cap in (most, load_challenge(challenge).max_per_video) if cap is not None), default=None)


def write_submission(file: BinaryIO, head: Mapping[str, Any], results: Iterable[tuple[str, list[ResultEntry]]]) -> None:
    """Write the JSON value, a video at a time: what `build_submission` makes need never be in memory whole."""
    before = "{"
    for key, value in head.items():
        file.write(f"{before}{json.dumps(key)}: ".encode())
        if key == "results":
            _write_results(file, results)
        else:
            file.write(json.dumps(value, allow_nan=False).encode())
        before = ", "
    file.write(b"}\n")


def _write_results(file: BinaryIO, results: Iterable[tuple[str, list[ResultEntry]]]) -> None:
    before = "{"
    for name, entries in results:
        file.write(f"{before}\n{json.dumps(name)}: {json.dumps(entries, allow_nan=False)}".encode())
        before = ","
    file.write(b"{}" if before == "{" else b"\n}")


def _entries(video_id: str, detections: Sequence[Detection], duration: float | None) -> list[ResultEntry]:
    entries = []
    limit = math.inf if duration is None else duration
    for detection in sorted(detections, key=lambda d: -d.score):
        if not math.isfinite(detection.score):
            raise UsageError(f"a submission needs finite scores; video {video_id!r} has {detection.score}")
        start, end = _rounded(max(float(detection.start), 0.0), min(float(detection.end), limit), limit)
        if start < end:
            score = float(f"{detection.score:.{SCORE_DIGITS}g}")
            entries.append({"label": detection.label, "score": score, "segment": [start, end]})
    return entries


def _rounded(start: float, end: float, limit: float) -> tuple[float, float]:
    """Seconds to the millisecond, inside the video; a segment that would have no length then stays as it is."""
    first, last = round(start, SECOND_DIGITS), min(round(end, SECOND_DIGITS), limit)
    return (first, last) if first < last else (start, end)
