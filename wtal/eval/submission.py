"""Challenge submissions: built from detections, and checked for what the challenge would refuse."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wtal.data.dataset import Dataset, bare_id, match_ids
from wtal.data.detections import is_number, to_json
from wtal.data.files import read_json
from wtal.data.segments import Detection
from wtal.data.tally import Tally
from wtal.errors import FormatError, UsageError
from wtal.eval.challenges import load_challenge

TOLERANCE = 0.5
"""Seconds by which a segment may run past its video before it is refused: durations differ between decoders."""

OFFENDERS = 5
"""How many offenders of a kind are named."""

NO_EXTERNAL_DATA = {"used": False, "details": ""}
"""What `external_data` says when nothing else is known."""


@dataclass(frozen=True)
class Report:
    """What is wrong with a submission (`errors`) and what is odd about it (`warnings`), a line for each kind."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    videos: int
    detections: int

    @property
    def ok(self) -> bool:
        """Whether the challenge would take it, as far as can be known here."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """The report for a person: errors, warnings, and the verdict in the last line."""
        lines = [f"error: {line}" for line in self.errors] + [f"warning: {line}" for line in self.warnings]
        verdict = "would be accepted" if self.ok else "would be refused"
        return "\n".join([*lines, f"{self.detections} detections in {self.videos} videos: {verdict}"])


def build_submission(
    detections: Mapping[str, Sequence[Detection]],
    challenge: str,
    durations: Mapping[str, float | None],
    external_data: Mapping[str, Any] = NO_EXTERNAL_DATA,
    results_only: bool = False,
) -> dict[str, Any]:
    """Detections (seconds) by video id -> the JSON value that the challenge takes.

    Ids lose their `v_`; segments are cut to their video, and those of which nothing is left are dropped. `durations`
    has seconds by video id, with or without `v_`; a video that it lacks is cut at second 0 only. Videos are in id
    order, detections by descending score.

    Raises:
        UsageError: when there is no such challenge, when two ids are one without `v_`, or when a score is not finite.
    """
    rules, matches = load_challenge(challenge), match_ids(detections, durations)
    results: dict[str, list[dict[str, Any]]] = {}
    for video_id in sorted(detections):
        name = bare_id(video_id)
        if name in results:
            raise UsageError(f"two videos are {name!r} without 'v_'; give each video one id")
        duration = durations[matches[video_id]] if video_id in matches else None
        results[name] = _video_results(video_id, detections[video_id], duration)
    if results_only:
        return {"results": results}
    return {"version": rules.version, "results": results, "external_data": dict(external_data)}


def check_submission(
    source: Path | Mapping[str, Any],
    challenge: str,
    dataset: Dataset | None = None,
    subset: str | None = None,
    results_only: bool = False,
) -> Report:
    """Check a submission, a file or its JSON value, against the rules of a challenge.

    With a `dataset`, labels must be its classes, ids those of its `subset` (all of it, when None), and segments must
    end with their video; labels that the challenge's own list lacks are a warning then, for collections of one's own.
    Without a dataset, labels must be the challenge's. `results_only` lets a file hold `results` alone,
    whatever the challenge says about that.

    Raises:
        UsageError: when there is no such challenge or no such subset, or a subset without a dataset.
    """
    rules = load_challenge(challenge)
    if dataset is None and subset is not None:
        raise UsageError(f"subset {subset!r} is a part of an annotation file; name the file too")
    try:
        content = read_json(source) if isinstance(source, Path) else source
    except FormatError as error:
        return Report((str(error),), (), 0, 0)
    if not isinstance(content, Mapping) or not isinstance(content.get("results"), Mapping):
        return Report(("there is no 'results' object: video id -> list of detections",), (), 0, 0)
    check = _Check(rules.classes, None if dataset is None else frozenset(dataset.classes))
    _check_head(check, content, results_only or rules.results_only)
    _check_ids(check, content["results"], dataset, subset)
    durations = _durations(content["results"], dataset)
    for video_id, entries in content["results"].items():
        check.video(video_id, entries, durations.get(video_id, math.inf))
    return check.report(len(content["results"]))


def _video_results(video_id: str, found: Sequence[Detection], duration: float | None) -> list[dict[str, Any]]:
    results = []
    for detection in sorted(found, key=lambda d: -d.score):
        if not math.isfinite(detection.score):
            raise UsageError(f"a submission needs finite scores; video {video_id!r} has {detection.score}")
        start, end = max(detection.start, 0.0), min(detection.end, math.inf if duration is None else duration)
        if start < end:
            results.append(to_json(Detection(start, end, detection.label, detection.score)))
    return results


def _durations(video_ids: Collection[str], dataset: Dataset | None) -> dict[str, float]:
    if dataset is None:
        return {}
    known = {name: dataset.videos[match].duration for name, match in match_ids(video_ids, dataset.videos).items()}
    return {name: duration for name, duration in known.items() if duration is not None}


def _check_head(check: "_Check", content: Mapping[str, Any], results_only: bool) -> None:
    if set(content) == {"results"} and results_only:
        check.warn("keys that most servers want and a file with 'results' alone lacks", "version, external_data")
        return
    for key in ("version", "external_data"):
        if key not in content:
            check.refuse("missing keys", repr(key))
    if "version" in content and not isinstance(content["version"], str):
        check.refuse("values of 'version' that are not a text", repr(content["version"]))
    external = content.get("external_data", NO_EXTERNAL_DATA)
    if not isinstance(external, Mapping) or not isinstance(external.get("used"), bool):
        check.refuse("values of 'external_data' without 'used': true or false", repr(external))
    elif not isinstance(external.get("details"), str) or (external["used"] and not external["details"]):
        check.warn("values of 'external_data' without 'details'", repr(external))
    for key in sorted(set(content) - {"version", "results", "external_data"}, key=str):
        check.warn("keys that the challenge does not know", repr(key))


def _check_ids(check: "_Check", results: Mapping[str, Any], dataset: Dataset | None, subset: str | None) -> None:
    for video_id in results:
        if bare_id(video_id) != video_id:
            check.refuse("ids that begin with 'v_', which the challenge's do not", video_id)
    if dataset is None:
        return
    expected = [video.id for video in dataset.select(subset or "*")]
    part = "the annotations" if subset is None else f"subset {subset!r}"
    known, elsewhere = match_ids(results, expected), match_ids(results, dataset.videos)
    for video_id in results:
        if video_id not in elsewhere:
            check.refuse("ids that the annotations do not know", video_id)
        elif video_id not in known:
            check.refuse(f"ids that are in another subset than {subset!r}", video_id)
    for video_id in sorted(set(expected).difference(known.values())):
        check.warn(f"videos of {part} that the submission lacks", video_id)


class _Check:
    """Gathers what is wrong and what is odd, a line for each kind and the first offenders by name."""

    def __init__(self, official: frozenset[str], own: frozenset[str] | None) -> None:
        self._classes, self._official = official if own is None else own, official
        self._unofficial: set[str] = set()
        self._errors, self._warnings = Tally(OFFENDERS), Tally(OFFENDERS)
        self._detections = self._without_segment = 0

    def refuse(self, finding: str, offender: str) -> None:
        """Note something that the challenge would refuse."""
        self._errors.add(finding, offender)

    def warn(self, finding: str, offender: str) -> None:
        """Note something odd that the challenge would take."""
        self._warnings.add(finding, offender)

    def report(self, videos: int) -> Report:
        """The findings; classifications are refused as such, without a line about each."""
        errors = self._errors.sentences()
        if self._without_segment and self._without_segment == self._detections:
            errors = (f"no entry of {self._detections} has a segment: this is a classification file, not detections",)
        return Report(errors, self._warnings.sentences(), videos, self._detections)

    def video(self, video_id: str, entries: Any, duration: float) -> None:
        """Check the list of one video that lasts `duration` seconds."""
        if not isinstance(entries, list):
            self.refuse("videos without a list of detections", f"results.{video_id}")
            return
        for i, entry in enumerate(entries):
            self._detections += 1
            where = f"results.{video_id}[{i}]"
            if isinstance(entry, Mapping):
                self._entry(entry, where, duration)
            else:
                self.refuse("detections that are not objects with label, score and segment", where)

    def _entry(self, entry: Mapping[str, Any], where: str, duration: float) -> None:
        label, score, segment = entry.get("label"), entry.get("score"), entry.get("segment")
        if not isinstance(label, str) or label not in self._classes:
            self.refuse("labels that are no class of the challenge", f"{where} {label!r}")
        elif label not in self._official and label not in self._unofficial:
            self._unofficial.add(label)
            self.warn("labels that the challenge's own list lacks, which its server would refuse", repr(label))
        if not is_number(score):
            self.refuse("scores that are not finite numbers", f"{where} {score!r}")
        if segment is None:
            self._without_segment += 1
            self.refuse("detections without a segment", where)
        elif isinstance(segment, list | tuple) and len(segment) == 2 and all(map(is_number, segment)):
            self._segment(segment[0], segment[1], f"{where} {list(segment)}", duration)
        else:
            self.refuse("segments that are not two finite numbers", f"{where} {segment!r}")

    def _segment(self, start: float, end: float, where: str, duration: float) -> None:
        if start < 0:
            self.refuse("segments that begin before second 0", where)
        if end < start:
            self.refuse("segments that end before they begin", where)
        elif end == start:
            self.warn("segments of no length", where)
        if end > duration + TOLERANCE:
            self.refuse(f"segments that end more than {TOLERANCE} s after their video", f"{where} of {duration} s")
        elif end > duration:
            self.warn(f"segments that end after their video, by up to {TOLERANCE} s", f"{where} of {duration} s")
