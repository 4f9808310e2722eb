"""Annotations for the next training, extended by the workspace's verdicts."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import Dataset, content_digest
from wtal.data.detections import read_detections
from wtal.data.names import NamedId
from wtal.data.store import FeatureStore
from wtal.data.verdicts import Seconds, Verdicts, read_verdicts
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.review.lesson import Lesson, VideoClass, learn
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.workspace import Workspace

_DETECTIONS = ("*/seed-*/detections/detections*.json", "*/detections/detections*.json")


def taught(
    annotations: Path, subset: str, present: Sequence[str], workspace: Workspace, reporter: Reporter = SILENT
) -> Path:
    """Return annotations of a subset extended by the workspace's verdicts; the same file if they teach nothing.

    `present` are the ids of the videos at hand. The file is named by its content, and holds no time of a verdict.

    Raises:
        UsageError: when the subset does not exist.
        FormatError: when the verdicts, or the detections they refer to, cannot be read.
    """
    if not workspace.verdicts.exists():
        return annotations
    dataset = read_annotations(annotations)
    lesson = lesson_of(dataset, read_verdicts(workspace.verdicts), subset, workspace)
    for line in (*lesson.notes, *lesson.contradictions):
        reporter.say(f"verdicts: {line}")
    if lesson.dataset == dataset:
        reporter.say(f"verdicts: {workspace.verdicts} teaches nothing beyond the labels")
        return annotations
    reporter.say(f"verdicts: using {workspace.verdicts}; --no-verdicts ignores them")
    own = _settled(lesson.dataset, present)
    target = workspace.reviewed / f"{annotations.stem}-{content_digest(own)}.json"
    return target if target.exists() else write_annotations(own, target)


def taught_inputs(inputs: TrainInputs, subset: str, workspace: Workspace, reporter: Reporter = SILENT) -> TrainInputs:
    """Return training inputs whose annotations of a subset are extended by the workspace's verdicts.

    Raises:
        UsageError: when the subset does not exist.
        FormatError: when the verdicts, or the detections they refer to, cannot be read.
        WtalError: when the store does not exist.
    """
    if not workspace.verdicts.exists():
        return inputs
    present = FeatureStore.open(inputs.store).ids
    return replace(inputs, annotations=taught(inputs.annotations, subset, present, workspace, reporter))


def lesson_of(dataset: Dataset, verdicts: Verdicts, subset: str, workspace: Workspace) -> Lesson:
    """Return the lesson of verdicts for a subset; a class is rejected if every detection of it in some run was.

    Raises:
        UsageError: when the subset does not exist.
        FormatError: when a run's detections cannot be read.
    """
    return learn(dataset, verdicts, subset, _rejected(verdicts, workspace))


def _rejected(verdicts: Verdicts, workspace: Workspace) -> set[VideoClass]:
    """Return videos and classes of which every detection of some run was rejected.

    The runs of a workspace are kept, so the result still holds after the next training.
    """
    gone: dict[VideoClass, set[Seconds]] = defaultdict(set)
    otherwise = set()
    for verdict in verdicts.verdicts:
        pair = verdict.video, verdict.label
        if verdict.verdict == "no" and verdict.detection:
            gone[pair].add(verdict.detection.segment)
        else:
            otherwise.add(pair)
    candidates = {
        pair: segments for pair, segments in gone.items() if pair not in otherwise and pair[0] not in verdicts.looked_at
    }
    files = [path for pattern in _DETECTIONS for path in sorted(workspace.runs.glob(pattern))] if candidates else []
    return {pair for file in files for pair in _all_rejected(file, candidates)}


def _all_rejected(file: Path, rejected: dict[VideoClass, set[Seconds]]) -> Collection[VideoClass]:
    detections = read_detections(file)
    own = {
        (video, label): {(d.start, d.end) for d in detections.get(video, ()) if d.label == label}
        for video, label in rejected
    }
    return [pair for pair, segments in own.items() if segments and segments <= rejected[pair]]


def _settled(dataset: Dataset, present: Sequence[str]) -> Dataset:
    """Return a dataset in which ids given as paths in a table are replaced by the ids of the videos they refer to."""
    matches = dataset.match(present)
    names = {video: matches.get(video, video) if isinstance(video, NamedId) else video for video in dataset.videos}
    return replace(
        dataset,
        videos={names[video]: replace(record, id=str(names[video])) for video, record in dataset.videos.items()},
    )
