"""Detections -> a challenge file, checked before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.detections import align_ids, read_results
from wtal.data.files import atomic_file
from wtal.data.kinds import ANNOTATIONS, DETECTIONS, JSON, VERDICTS, detections_in, require_detections, require_kind
from wtal.data.regular import require_regular
from wtal.data.segments import Detection
from wtal.errors import UsageError, WtalError
from wtal.eval.challenges import CHALLENGES, load_challenge
from wtal.eval.submission import NO_EXTERNAL_DATA, most_per_video, submission_head, submission_results, write_submission
from wtal.eval.submission_check import SubmissionReport, check_submission, read_version
from wtal.pipeline.checks.lengths import late_notes, length_notes
from wtal.pipeline.runs import Run
from wtal.pipeline.workspace import Workspace

_UNKNOWN = (
    "external_data states that no other data was used, but the detections do not say so; "
    "state it with --external-data TEXT, or --external-data none"
)


@dataclass(frozen=True)
class Submission:
    """The file written, and warnings about it."""

    path: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Entries:
    """Detections to submit, and their metadata; `external` is None if external data is not stated."""

    name: str
    detections: Mapping[str, Sequence[Detection]]
    dataset: Dataset | None
    subset: str | None
    durations: dict[str, float | None]
    external: dict[str, Any] | None
    lengths: tuple[str, ...] = ()


def submit(
    source: Run | Path,
    challenge: str,
    workspace: Workspace,
    out: Path | None = None,
    annotations: Path | None = None,
    subset: str | None = None,
    results_only: bool = False,
    detections: Path | None = None,
    external_data: str = "",
    most: int | None = None,
) -> Submission:
    """Write the challenge's JSON for a run (its own detections, or others of it), or for a detection file.

    `external_data` states the other data used, or `none`; by default the statement in the detections is used. `most`
    keeps the best that many detections per video. The bytes checked are the bytes published.

    Raises:
        UsageError: when the run has no detections yet, or the file does not exist.
        WtalError: when the challenge would refuse the file; nothing is written then.
    """
    if isinstance(source, Run):
        entries = _from_run(source, annotations, subset, detections)
    else:
        entries = _from_file(source, annotations, subset)
    external = _stated(external_data) or entries.external
    head = submission_head(challenge, external or NO_EXTERNAL_DATA, results_only)
    path = out or workspace.submissions / f"{challenge}-{entries.name}.json"
    with atomic_file(path) as file:
        write_submission(file, head, submission_results(entries.detections, challenge, entries.durations, most))
        file.flush()
        report = check_submission(Path(file.name), challenge, entries.dataset, entries.subset, results_only)
        if not report.ok:
            raise WtalError(f"{challenge} would refuse this: {'; '.join(report.errors)}")
    unknown = () if external or results_only else (_UNKNOWN,)
    cap = most_per_video(challenge, most)
    lost = sum(len(segments[:cap]) for segments in entries.detections.values()) - report.detections
    outside = (f"detections outside their video or of zero length, left out: {lost}",) if lost else ()
    return Submission(path, report.warnings + outside + entries.lengths + unknown)


def check(file: Path, challenge: str | None, annotations: Path | None, subset: str | None) -> SubmissionReport:
    """Check a file, ours or not; the default challenge is the one whose `version` it states.

    Raises:
        UsageError: when the file does not exist, or no challenge is named and its version matches none.
    """
    if not file.exists():
        raise UsageError(f"{file} does not exist; pass the file to check")
    advice = "wtal submit RUN --challenge NAME writes one"
    require_kind(file, "the JSON file of a challenge", (DETECTIONS, ANNOTATIONS, VERDICTS, JSON), advice)
    dataset = read_annotations(annotations) if annotations else None
    return check_submission(file, challenge or stated_challenge(file), dataset, subset)


def stated_challenge(file: Path) -> str:
    """Return the challenge whose `version` a file states.

    Raises:
        UsageError: when it states no known version.
        FormatError: when it is not JSON.
    """
    version = read_version(file)
    named = [name for name in CHALLENGES.names() if load_challenge(name).version == version]
    if len(named) != 1:
        choices = "|".join(CHALLENGES.names())
        if not isinstance(version, str):
            raise UsageError(f"{file} has no version; name the challenge with --challenge {choices}")
        raise UsageError(
            f"{file} states the version {version!r}, which matches no challenge; name one with --challenge {choices}"
        )
    return named[0]


def _from_run(run: Run, annotations: Path | None, subset: str | None, detections: Path | None) -> _Entries:
    file = detections or run.detections()
    dataset = read_annotations(annotations or run.annotations_file())
    subset = subset or run.recipe.evaluate.test_subset
    store = run.store()
    results, rest = read_results(file)
    records = {video.id: video for video in dataset.select(subset)}
    durations: dict[str, float | None] = {
        name: records[name].duration or store.grid(key).end for name, key in dataset.match(store.ids, records).items()
    }
    chosen = {name: results[key] for name, key in dataset.match(results, records).items()}
    absolute = run.folder.resolve()
    name = absolute.name if run.ensemble else f"{absolute.parent.name}-{absolute.name}"
    lengths = length_notes(dataset, store, subset=subset)
    return _Entries(name, chosen, dataset, subset, durations, _external(rest), lengths)


def _from_file(source: Path, annotations: Path | None, subset: str | None) -> _Entries:
    require_regular(source)
    file = detections_in(source)
    if not file.is_file():
        raise UsageError(f"{file} does not exist; pass a run's folder or a detection file")
    name = file.stem if file == source else source.name
    require_detections(file)
    results, rest = read_results(file)
    if annotations is None:
        return _Entries(name, results, None, subset, {}, _external(rest))
    dataset = read_annotations(annotations)
    records = dataset.select(subset or "*")
    durations = {video.id: video.duration for video in records}
    aligned = align_ids(results, dataset.videos)
    # Videos annotated in another subset are not submitted; unknown ones are refused by the check.
    chosen = {name: segments for name, segments in aligned.items() if name in durations or name not in dataset.videos}
    return _Entries(name, chosen, dataset, subset, durations, _external(rest), late_notes(records, chosen))


def _external(rest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a detection file's record of the external data used; None if it has none."""
    external = rest.get("external_data")
    if not isinstance(external, dict) or not isinstance(external.get("used"), bool):
        return None
    return {"used": external["used"], "details": str(external.get("details") or "")}


def _stated(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    return dict(NO_EXTERNAL_DATA) if text == "none" else {"used": True, "details": text}
