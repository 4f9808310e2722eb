"""Summary of a workspace's verdicts, and their segments as annotations."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.segments import Annotation
from wtal.data.verdicts import Answer, Verdict, Verdicts, read_verdicts
from wtal.errors import UsageError
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.review.lesson import Lesson
from wtal.pipeline.review.teach import lesson_of
from wtal.pipeline.viewing.located import locate
from wtal.pipeline.workspace import Workspace

SUBSET = "reviewed"
"""Subset of the reviewed videos."""
_ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class Overview:
    """A file of verdicts; `lesson` is their lesson, None without annotations."""

    file: Path
    verdicts: Verdicts
    lesson: Lesson | None

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Class -> answer -> number of verdicts."""
        classes = sorted({verdict.label for verdict in self.verdicts.verdicts})
        counts = Counter((verdict.label, verdict.verdict) for verdict in self.verdicts.verdicts)
        return {label: {answer: counts[label, answer] for answer in _ANSWERS} for label in classes}

    def lines(self) -> list[str]:
        """Return the counts as a table, and the lessons of the verdicts."""
        if not self.verdicts.verdicts and not self.verdicts.looked_at:
            return [f"no verdicts in {self.file}; give some on the page of wtal report --serve"]
        width = max([len("class"), *map(len, self.counts)])
        lines = [" ".join([f"{'class':<{width}}", *(f"{answer:>7}" for answer in _ANSWERS)])]
        for label, counts in self.counts.items():
            lines.append(" ".join([f"{label:<{width}}", *(f"{counts[answer]:7}" for answer in _ANSWERS)]))
        lines.append(f"{len(self.verdicts.looked_at)} videos reviewed")
        if self.lesson is None:
            return [*lines, "to see what they teach, give --annotations"]
        teaches = [*self.lesson.notes, *self.lesson.contradictions] or ["nothing beyond the labels"]
        return [*lines, *(f"teaches: {line}" for line in teaches)]

    def to_json(self) -> dict[str, Any]:
        """Return the file, counts and lessons as JSON types."""
        lesson = None
        if self.lesson is not None:
            lesson = {"notes": list(self.lesson.notes), "contradictions": list(self.lesson.contradictions)}
        return {
            "verdicts": str(self.file),
            "counts": self.counts,
            "looked_at": list(self.verdicts.looked_at),
            "teaches": lesson,
        }


def overview(workspace: Workspace, source: Path | None = None, annotations: Path | None = None) -> Overview:
    """Count the verdicts of a workspace, or on a source, and list what they add to the annotations.

    Raises:
        UsageError: when the source does not exist.
        FormatError: when verdicts or annotations cannot be read.
    """
    file = workspace.verdicts if source is None else locate(source).verdicts_file
    verdicts = read_verdicts(file) if file.exists() else Verdicts()
    labels = annotations
    if labels is None:
        try:
            labels = workspace.only_annotations()
        except UsageError:
            return Overview(file, verdicts, None)
    dataset = read_annotations(labels)
    return Overview(file, verdicts, lesson_of(dataset, verdicts, _training(dataset), workspace))


def reviewed_annotations(workspace: Workspace, out: Path, source: Path | None = None) -> Path:
    """Write the confirmed segments of the reviewed videos as annotations; return `out`.

    Raises:
        UsageError: when no video was reviewed, or `out` exists.
        FormatError: when the verdicts cannot be read.
    """
    file = workspace.verdicts if source is None else locate(source).verdicts_file
    verdicts = read_verdicts(file) if file.exists() else Verdicts()
    if not verdicts.looked_at:
        raise UsageError(
            f"{file} marks no video as looked at, and only those are completely annotated; mark some on the page of "
            "wtal report"
        )
    if out.exists():
        raise UsageError(f"{out} already exists; choose another file, or delete it")
    segments: dict[str, list[Annotation]] = {video: [] for video in verdicts.looked_at}
    for verdict in verdicts.verdicts:
        if verdict.video in segments and (segment := _segment(verdict)):
            segments[verdict.video].append(segment)
    videos = {video: _record(video, own) for video, own in segments.items()}
    classes = sorted({verdict.label for verdict in verdicts.verdicts})
    return write_annotations(Dataset(tuple(classes), videos), out)


def _record(video: str, segments: list[Annotation]) -> VideoRecord:
    own = tuple(sorted(set(segments), key=lambda own: (own.start, own.end, own.label)))
    return VideoRecord(video, None, SUBSET, tuple(sorted({segment.label for segment in own})), own)


def _segment(verdict: Verdict) -> Annotation | None:
    if verdict.segment is not None:
        return Annotation(*verdict.segment, verdict.label)
    if verdict.verdict == "yes" and verdict.detection is not None:
        return Annotation(*verdict.detection.segment, verdict.label)
    return None


def _training(dataset: Dataset) -> str:
    """Return the default training subset, or all if there is none of that name."""
    usual = EvaluateConfig().train_subset
    return usual if usual in dataset.subsets else "*"
