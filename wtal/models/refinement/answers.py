"""Run a student over one whole video: candidates in seconds, and detections."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.batch import SnippetBatch
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection, as_array
from wtal.data.store import VideoFeatures
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import select_classes
from wtal.models.localization.suppression import suppress
from wtal.models.regression.decoding import decode
from wtal.models.regression.suppression import vote
from wtal.models.student import Student
from wtal.models.training.inputs import Scaler


@dataclass(frozen=True)
class Candidates:
    """A student's segments before suppression: `borders` (K, 2) in seconds, `classes` (K,), `scores` (K,) in (0, 1)."""

    borders: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]


@torch.inference_mode()
def candidates_of(student: Student, scaler: Scaler, video: VideoFeatures, device: str = "cpu") -> Candidates:
    """Decode the candidates of a student in eval mode from features of T > 0 snippets, on the video's own clock."""
    batch = SnippetBatch.collate([scaler(video.streams)]).to(device)
    decoded = decode(student(batch.features(), batch.mask), 0)
    begins, period = clock_of(video.grid)
    start = float(video.grid.begins)
    seconds = begins + decoded.borders.double().cpu().numpy() * period
    return Candidates(
        np.clip(seconds, start, video.grid.end),
        decoded.classes.cpu().numpy(),
        decoded.scores.double().cpu().numpy(),
    )


def clock_of(grid: SnippetGrid) -> tuple[float, float]:
    """Return the time of the first snippet's middle, and the period from one snippet to the next, in seconds."""
    first = grid.begins + (grid.lead + grid.stride / 2) / grid.fps
    return float(first), float(grid.period)


def detections_of(
    candidates: Candidates,
    video_scores: NDArray[np.floating],
    classes: Sequence[str],
    config: LocalizeConfig,
    power: float = 1.0,
) -> list[Detection]:
    """Suppress the candidates of each class; best first, at most `config.max_detections`.

    Only classes that `config` selects by the teacher's video scores (C,) are considered. The score is the candidate's
    to the `power`, times the video score to 1 - `power`.
    """
    selected = np.isin(candidates.classes, select_classes(video_scores, config))
    label, borders = candidates.classes[selected], candidates.borders[selected]
    share = np.maximum(video_scores, 0).astype(np.float64)[label] ** (1 - power)
    scores = candidates.scores[selected] ** power * share
    survivors = suppress(
        borders,
        scores,
        label,
        config.suppression,
        config.nms_tiou,
        config.soft_sigma,
        config.max_detections,
        config.overlap,
        temperature=config.fusion_temperature,
    )
    lasting = np.flatnonzero((survivors.borders[:, 1] > survivors.borders[:, 0]) & (survivors.scores > 0))
    best = lasting[np.argsort(-survivors.scores[lasting], kind="stable")][: config.max_detections]
    rows = zip(
        survivors.borders[best].tolist(), label[survivors.indices[best]], survivors.scores[best].tolist(), strict=True
    )
    return [Detection(start, end, classes[index], score) for (start, end), index, score in rows]


def with_teacher_borders(
    detections: Sequence[Detection], teacher: Sequence[Detection], share: float, tiou: float
) -> list[Detection]:
    """Move each detection's borders by `share` towards the mean of the teacher's overlapping detections of its class.

    Those that overlap it by at least `tiou` count, weighted by score times overlap (`vote`).
    """
    if not share:
        return list(detections)
    moved: dict[int, list[float]] = {}
    for label in {detection.label for detection in detections}:
        indices = [index for index, detection in enumerate(detections) if detection.label == label]
        others = [detection for detection in teacher if detection.label == label]
        own = as_array([detections[index] for index in indices])
        weights = np.array([max(detection.score, 0.0) for detection in others])
        borders = (1 - share) * own + share * vote(own, as_array(others), weights, tiou, "score_and_overlap")
        moved |= dict(zip(indices, borders.tolist(), strict=True))
    return [replace(d, start=moved[index][0], end=moved[index][1]) for index, d in enumerate(detections)]
