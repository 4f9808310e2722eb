"""Run a student over one whole video: candidates in seconds, and detections.

A run detects its teacher's proposals, scored by the student around them and moved towards it (`scored_by_student`). The
student's own segments (`segments_of`) teach its next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.batch import SnippetBatch
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection, as_array
from wtal.data.store import VideoFeatures
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.suppression import overlaps, suppress
from wtal.models.refinement.config import RefineConfig
from wtal.models.regression.decoding import decode
from wtal.models.regression.suppression import vote
from wtal.models.student import Student
from wtal.models.training.inputs import Scaler

_PAIRS = 1 << 20
"""Pairs of a proposal and a candidate that are compared at once."""


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


def segments_of(candidates: Candidates, classes: Sequence[str], config: LocalizeConfig) -> list[Detection]:
    """Suppress the candidates of each class; best first, at most `config.max_detections`."""
    borders, scores, label = _suppressed(candidates.borders, candidates.scores, candidates.classes, config)
    return _detections(borders, scores, label, classes)


def scored_by_student(
    proposals: Sequence[Detection],
    candidates: Candidates,
    classes: Sequence[str],
    config: LocalizeConfig,
    refinement: RefineConfig,
) -> list[Detection]:
    """Score a teacher's proposals by a student, suppress them, and move their borders; best first.

    The support of a proposal is the highest score * tIoU ** 2 of the student's candidates of its class. Its score is
    the support to the `score_power`, times the teacher's to 1 - `score_power`. The borders of what remains move by
    `border_share` towards the mean of the candidates that overlap it by at least `border_tiou`, weighted by score times
    overlap (`vote`). `config` has the rules of suppression and the maximum number of detections.
    """
    borders = as_array(proposals).reshape(-1, 2)
    label = np.array([classes.index(proposal.label) for proposal in proposals], dtype=np.int64)
    own = np.array([max(proposal.score, 0.0) for proposal in proposals])
    support = np.zeros(len(proposals))
    for index in np.unique(label):
        of_class, rivals = np.flatnonzero(label == index), candidates.classes == index
        for rows in np.array_split(of_class, max(1, len(of_class) * int(rivals.sum()) // _PAIRS)):
            weights = overlaps(borders[rows][:, None], candidates.borders[rivals], "tiou") ** 2
            support[rows] = (weights * candidates.scores[rivals]).max(axis=1, initial=0.0)
    power = refinement.score_power
    borders, scores, label = _suppressed(borders, support**power * own ** (1 - power), label, config)
    for index in np.unique(label):
        rows, rivals = label == index, candidates.classes == index
        means = vote(
            borders[rows],
            candidates.borders[rivals],
            candidates.scores[rivals],
            refinement.border_tiou,
            "score_and_overlap",
        )
        borders[rows] += refinement.border_share * (means - borders[rows])
    return _detections(borders, scores, label, classes)


def _suppressed(
    borders: NDArray[np.float64], scores: NDArray[np.float64], label: NDArray[np.int64], config: LocalizeConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Suppress segments class by class; return borders, scores and classes of those that last and score, best first."""
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
    return survivors.borders[best], survivors.scores[best], label[survivors.indices[best]]


def _detections(
    borders: NDArray[np.float64], scores: NDArray[np.float64], label: NDArray[np.int64], classes: Sequence[str]
) -> list[Detection]:
    rows = zip(borders.tolist(), label, scores.tolist(), strict=True)
    return [Detection(start, end, classes[index], score) for (start, end), index, score in rows]
