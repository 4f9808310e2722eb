"""A student over one whole video: its candidates in seconds, and its detections."""

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
    """Segments of a student before suppression: `borders` (K, 2) seconds, `classes` (K,), `scores` (K,) in (0, 1)."""

    borders: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]


@torch.inference_mode()
def candidates_of(student: Student, scaler: Scaler, video: VideoFeatures, device: str = "cpu") -> Candidates:
    """Features of T > 0 snippets -> what a student in evaluation decodes from them, on the video's own clock."""
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
    """Return the second of the first snippet's middle, and the seconds from one snippet to the next."""
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

    Only classes that `config` selects by the video scores (C,) of the teacher are looked for. Scores are those of the
    candidates to the `power`, times the video score to the rest of 1.
    """
    looked_for = np.isin(candidates.classes, select_classes(video_scores, config))
    label, borders = candidates.classes[looked_for], candidates.borders[looked_for]
    share = np.maximum(video_scores, 0).astype(np.float64)[label] ** (1 - power)
    scores = candidates.scores[looked_for] ** power * share
    left = suppress(
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
    lasting = np.flatnonzero((left.borders[:, 1] > left.borders[:, 0]) & (left.scores > 0))
    best = lasting[np.argsort(-left.scores[lasting], kind="stable")][: config.max_detections]
    rows = zip(left.borders[best].tolist(), label[left.indices[best]], left.scores[best].tolist(), strict=True)
    return [Detection(start, end, classes[index], score) for (start, end), index, score in rows]


def with_teacher_borders(
    detections: Sequence[Detection], teacher: Sequence[Detection], share: float, tiou: float
) -> list[Detection]:
    """Move each detection's borders by `share` towards the mean of the teacher's detections of its class around it.

    Around it are those that overlap it by `tiou`; each counts by its score times its overlap (`vote`).
    """
    if not share:
        return list(detections)
    moved: dict[int, list[float]] = {}
    for label in {detection.label for detection in detections}:
        places = [place for place, detection in enumerate(detections) if detection.label == label]
        others = [detection for detection in teacher if detection.label == label]
        own = as_array([detections[place] for place in places])
        weights = np.array([max(detection.score, 0.0) for detection in others])
        borders = (1 - share) * own + share * vote(own, as_array(others), weights, tiou, "score_and_overlap")
        moved |= dict(zip(places, borders.tolist(), strict=True))
    return [replace(d, start=moved[place][0], end=moved[place][1]) for place, d in enumerate(detections)]
