"""Pseudo segments of training videos by round, in a run's folder, and figures on them that use labels only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wtal.data.files import read_json, write_json
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import RefineConfig, SegmentsConfig
from wtal.models.refinement.pseudo_segments import PseudoSegments, agreement, pseudo_segments, unite
from wtal.pipeline.refinement.teacher import Labels

if TYPE_CHECKING:
    from wtal.models.student import Student
    from wtal.models.training.inputs import Scaler

Segments = dict[str, PseudoSegments]


@dataclass(frozen=True)
class Lessons:
    """Segments for training a student: its teacher's in the first round, then its own.

    `labels` has only the labelled training videos.
    """

    folder: Path
    features: FeatureStore
    classes: tuple[str, ...]
    labels: Labels
    first: Segments
    config: RefineConfig
    localize: LocalizeConfig
    device: str

    def teach(self, number: int, student: "Student", scaler: "Scaler") -> Segments | None:
        """Return the segments of a round, writing them if needed; None if they would teach nothing new."""
        path = segments_file(self.folder, number)
        if path.is_file():
            return read_segments(path)
        if number == 0:
            return self._write(path, self.first, {})
        older = read_segments(segments_file(self.folder, number - 1))
        relabelled, right = self._relabel(student, scaler)
        newer = {key: unite(own, self.first.get(key, PseudoSegments())) for key, own in relabelled.items()}
        agreeing = np.concatenate([agreement(newer[key], older.get(key, PseudoSegments())) for key in newer])
        mean = float(agreeing.mean()) if len(agreeing) else 1.0
        figures = {"agreement": mean, "label_accuracy": right}
        if mean > self.config.min_agreement:
            return None
        return self._write(path, newer, figures)

    def _relabel(self, student: "Student", scaler: "Scaler") -> tuple[Segments, float]:
        """Return the student's own segments, and the share of videos whose top class is one of their labels."""
        from wtal.models.refinement.answers import candidates_of, segments_of

        after = _of_a_student(self.config.segments)
        relabelled, right = {}, []
        for key, own in self.labels.items():
            candidates = candidates_of(student, scaler, self.features[key], self.device)
            detections = segments_of(candidates, self.classes, self.localize)
            right.append(bool(detections) and detections[0].label in own)
            relabelled[key] = pseudo_segments(detections, self.classes, own, after)
        return relabelled, float(np.mean(right)) if right else 0.0

    def _write(self, path: Path, segments: Segments, figures: Mapping[str, float]) -> Segments:
        content = {"figures": {**statistics(segments), **figures}, "videos": _plain(segments)}
        write_json(path, content, indent=None)
        return segments


def _of_a_student(config: SegmentsConfig) -> SegmentsConfig:
    """Return the rules for a student's detections, whose overlaps are already suppressed: density is meaningless."""
    return config.model_copy(update={"min_density": 0.0, "ignore_density": 0.0})


def first_segments(
    proposals: Mapping[str, Sequence[Detection]], classes: Sequence[str], labels: Labels, config: SegmentsConfig
) -> Segments:
    """Return the teacher's pseudo segments of each labelled video."""
    return {key: pseudo_segments(proposals[key], classes, own, config) for key, own in labels.items()}


def segments_file(folder: Path, number: int) -> Path:
    """Return the file of a round's segments, counted from 0."""
    return folder / f"segments-{number}.json"


def read_segments(path: Path) -> Segments:
    """Read the pseudo segments of a round: video -> segments in seconds."""
    return {key: PseudoSegments.from_json(own) for key, own in read_json(path)["videos"].items()}


def read_rounds(folder: Path) -> list[Segments]:
    """Read the pseudo segments of each round used for training."""
    return [read_segments(path) for path in sorted(folder.glob("segments-*.json"))]


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """Read the figures of each round used for training."""
    return [read_json(path)["figures"] for path in sorted(folder.glob("segments-*.json"))]


def statistics(segments: Mapping[str, PseudoSegments]) -> dict[str, float]:
    """Return the number of segments and of videos with any, and the median length and confidence."""
    lengths = np.concatenate([np.zeros(0), *(np.diff(own.borders, axis=1)[:, 0] for own in segments.values())])
    scores = np.concatenate([np.zeros(0), *(own.scores for own in segments.values())])
    return {
        "segments": len(lengths),
        "videos": len(segments),
        "taught": sum(bool(len(own.classes)) for own in segments.values()),
        "median_seconds": float(np.median(lengths)) if len(lengths) else 0.0,
        "median_score": float(np.median(scores)) if len(scores) else 0.0,
    }


def _plain(segments: Mapping[str, PseudoSegments]) -> dict[str, Any]:
    return {key: own.to_json() for key, own in segments.items()}
