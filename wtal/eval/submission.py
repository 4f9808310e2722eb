"""Build challenge submissions from detections; `submission_check` checks them."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from wtal.data.names import bare_id, match_ids
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval.challenges import load_challenge

NO_EXTERNAL_DATA = {"used": False, "details": ""}
"""Default value of `external_data`."""

SECOND_DIGITS = 3
"""Decimal digits of seconds: a frame lasts tens of milliseconds."""

SCORE_DIGITS = 9
"""Significant digits of a score: enough to distinguish any two single-precision numbers."""

ResultEntry = dict[str, Any]


def build_submission(
    detections: Mapping[str, Sequence[Detection]],
    challenge: str,
    durations: Mapping[str, float | None],
    external_data: Mapping[str, Any] = NO_EXTERNAL_DATA,
    results_only: bool = False,
    most: int | None = None,
) -> dict[str, Any]:
    """Build the JSON value of a submission from detections (seconds) by video id, as in `submission_results`.

    Raises:
        UsageError: when there is no such challenge, when two ids are equal without `v_`, or when a score is not finite.
    """
    head = submission_head(challenge, external_data, results_only)
    return {**head, "results": dict(submission_results(detections, challenge, durations, most))}


def submission_head(challenge: str, external_data: Mapping[str, Any], results_only: bool) -> dict[str, Any]:
    """Return the JSON value with empty results in their place."""
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
    """Yield (id, entries) of the submission from detections (seconds) by video id, in order of these ids.

    Ids lose their `v_`. Segments are cut to their video, rounded to milliseconds within it, and dropped if nothing is
    left. `durations` has seconds by video id, with or without `v_`; a video without one is only cut at second 0. The
    entries of a video are by descending score, at most `most` and at most as many as the challenge accepts.

    Raises:
        UsageError: as in `build_submission`.
    """
    cap = most_per_video(challenge, most)
    matches, seen = match_ids(detections, durations), set()
    for video_id in sorted(detections):
        name = bare_id(video_id)
        if name in seen:
            raise UsageError(f"two videos have the id {name!r} without 'v_'; give each video a unique id")
        seen.add(name)
        duration = durations[matches[video_id]] if video_id in matches else None
        yield name, _entries(video_id, detections[video_id], duration)[:cap]


def most_per_video(challenge: str, most: int | None = None) -> int | None:
    """Return the limit of detections per video: the lower of `most` and the challenge's; None: no limit."""
    return min((cap for cap in (most, load_challenge(challenge).max_per_video) if cap is not None), default=None)


def write_submission(file: BinaryIO, head: Mapping[str, Any], results: Iterable[tuple[str, list[ResultEntry]]]) -> None:
    """Write the JSON value of `build_submission`, one video at a time, so that it need not fit into memory."""
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
    """Round seconds to milliseconds, within the video; a segment that would become empty is unchanged."""
    first, last = round(start, SECOND_DIGITS), min(round(end, SECOND_DIGITS), limit)
    return (first, last) if first < last else (start, end)
