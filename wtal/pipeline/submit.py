"""Detections -> a challenge file that has been checked before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, match_ids
from wtal.data.detections import align_ids, read_detections
from wtal.data.files import read_json, write_json
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.eval.submission import Report, build_submission, check_submission
from wtal.pipeline.evaluate import own_detections
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import Workspace, read_run, seed_folders


@dataclass(frozen=True)
class Submission:
    """The file that was written, and what is odd about it."""

    path: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Detections, and what is known of them."""

    name: str
    detections: Mapping[str, Sequence[Detection]]
    dataset: Dataset | None
    subset: str | None
    durations: dict[str, float | None]
    details: str


def submit(
    source: Path,
    challenge: str,
    workspace: Workspace,
    out: Path | None = None,
    annotations: Path | None = None,
    subset: str | None = None,
    results_only: bool = False,
    detections: Path | None = None,
) -> Submission:
    """Write the challenge's JSON for one seed of a run (its own detections, or others of it), or for a detection file.

    Raises:
        UsageError: when the run has several seeds.
        WtalError: when the challenge would refuse the file; nothing is written then.
    """
    if source.is_dir():
        given = _from_run(source, annotations, subset, detections)
    else:
        given = _from_file(source, annotations, subset)
    external = {"used": bool(given.details), "details": given.details}
    content = build_submission(given.detections, challenge, given.durations, external, results_only)
    report = check_submission(content, challenge, given.dataset, given.subset, results_only)
    if not report.ok:
        raise WtalError(f"{challenge} would refuse this: {'; '.join(report.errors)}")
    path = out or workspace.submissions / f"{challenge}-{given.name}.json"
    write_json(path, content, indent=None)
    return Submission(path, report.warnings)


def check(file: Path, challenge: str, annotations: Path | None, subset: str | None) -> Report:
    """Check a file, of ours or not.

    Raises:
        UsageError: when the file is not there.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file} to check")
    return check_submission(file, challenge, read_annotations(annotations) if annotations else None, subset)


def _from_run(run: Path, annotations: Path | None, subset: str | None, detections: Path | None) -> _Source:
    seeds = seed_folders(run)
    if len(seeds) > 1:
        raise UsageError(f"{run} has {len(seeds)} seeds; submit one of them: {', '.join(map(str, seeds))}")
    folder = seeds[0]
    described = read_run(folder)
    file = detections or own_detections(folder)
    dataset = read_annotations(annotations or resolve(folder, described["annotations"]))
    subset = subset or described["recipe"]["evaluate"]["test_subset"]
    store = FeatureStore.open(resolve(folder, described["store"]))
    found = read_detections(file)
    records = {video.id: video for video in dataset.select(subset)}
    durations: dict[str, float | None] = {
        name: records[name].duration or store.grid(key).duration for name, key in match_ids(records, store.ids).items()
    }
    chosen = {name: found[key] for name, key in match_ids(records, found).items()}
    return _Source(f"{folder.resolve().parent.name}-{folder.name}", chosen, dataset, subset, durations, _details(file))


def _from_file(file: Path, annotations: Path | None, subset: str | None) -> _Source:
    if not file.is_file():
        raise UsageError(f"there is nothing at {file}; name a run's folder or a detection file")
    found = read_detections(file)
    if annotations is None:
        return _Source(file.stem, found, None, subset, {}, _details(file))
    dataset = read_annotations(annotations)
    durations = {video.id: video.duration for video in dataset.select(subset or "*")}
    aligned = align_ids(found, dataset.videos)
    # What the annotations put into another subset is not submitted; what they do not know is refused by the check.
    chosen = {name: one for name, one in aligned.items() if name in durations or name not in dataset.videos}
    return _Source(file.stem, chosen, dataset, subset, durations, _details(file))


def _details(file: Path) -> str:
    """What the detection file says of the data that its features were learned from."""
    content: Any = read_json(file) if file.suffix.lower() == ".json" else {}
    external = content.get("external_data") if isinstance(content, dict) else None
    details = external.get("details") if isinstance(external, dict) else None
    return str(details) if details else ""
