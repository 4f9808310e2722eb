"""Combination of several heads on one video: means of their activations, or fusion of their detections. No torch.

The outputs of different heads have different meanings. Before anything is averaged, it is made comparable:

- Class activations are squashed as in the head's own localization (softmax over classes, or sigmoid), which makes them
  probabilities. Logits that it uses unchanged have no fixed scale; they are rescaled to [0, 1] by their extremes in the
  video, per class if its localization rescales per class, else over all. Background is dropped: a softmax has already
  reduced the other classes by its share. A head without a background class cannot express the absence of action; that
  is left to the others, and to the attention.
- Attention is in [0, 1] for every head. A head without one is left out of the mean.
- Video scores are probabilities for every head.
- Scores of detections have no common scale; their order and ratios are preserved, and each member's are divided by the
  typical score of its best detection in a video (that of the median video).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection, as_array
from wtal.data.store.resample import resampled
from wtal.errors import UsageError
from wtal.models.localization.config import FUSED, UNION, LocalizeConfig
from wtal.models.localization.signals import Activations, squash, stretch
from wtal.models.localization.suppression import overlaps, suppress

FUSING = ("suppression", "overlap", "nms_tiou", "soft_sigma", "fusion_temperature", "max_detections")
"""Localization keys that control the fusion of detections."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MemberActivations:
    """Comparable activations of one member, its clock and its weight."""

    activations: Activations
    grid: SnippetGrid
    weight: float


def comparable(activations: Activations, config: LocalizeConfig) -> Activations:
    """Convert stored activations (T, C or C + 1) to (T, C) in [0, 1], by the head's own localization.

    If that uses one stream alone, so does this; if it pools the detections of streams, their common output is used.

    Raises:
        UsageError: when the head has no stream of that name.
    """
    if config.streams not in (FUSED, UNION):
        if config.streams not in activations.streams:
            raise UsageError(f"a member has no stream {config.streams!r}, which its localization uses")
        activations = activations.streams[config.streams]
    cas = squash(activations.cas.astype(np.float64), config.activation)[:, : len(activations.video_scores)]
    if config.activation == "none" and len(cas):
        cas = stretch(cas, "class" if config.range == "class" else "video")
    return Activations(cas.astype(np.float32), activations.attention, activations.video_scores)


def mean_activations(members: Sequence[MemberActivations]) -> tuple[Activations, SnippetGrid]:
    """Return weighted means on the finest grid (the first of equals), interpolated between the middles of snippets."""
    grid = min((member.grid for member in members), key=lambda grid: grid.period)
    attention = [
        (member.weight, resampled(member.activations.attention[:, None], member.grid, grid)[:, 0])
        for member in members
        if member.activations.attention is not None
    ]
    mean = Activations(
        cas=_mean([(member.weight, resampled(member.activations.cas, member.grid, grid)) for member in members]),
        attention=_mean(attention) if attention else None,
        video_scores=_mean([(member.weight, member.activations.video_scores) for member in members]),
    )
    return mean, grid


def _mean(weighted: Sequence[tuple[float, NDArray[np.floating]]]) -> NDArray[np.float32]:
    total = sum(weight for weight, _ in weighted)
    mean = np.zeros(weighted[0][1].shape)
    for weight, values in weighted:
        mean += (weight / total) * values.astype(np.float64)
    return mean.astype(np.float32)


def typical_best(detections: Sequence[Sequence[Detection]]) -> float:
    """Return the median of the videos' best scores; 1 if that is not above 0."""
    best = [max(detection.score for detection in video) for video in detections if video]
    middle = median(best) if best else 1.0
    return middle if middle > 0 else 1.0


def fuse(
    detections: Sequence[Sequence[Detection]], weights: Sequence[float], config: LocalizeConfig
) -> list[Detection]:
    """Fuse one video's detections by each member, on comparable scores, into one list, best first.

    All are pooled, their scores multiplied by their member's weight (1 on average), and suppressed per label according
    to `config`. Under `fusion`, which moves borders to the mean of those that agree, the score is also a mean over
    members: of each member's best detection of that label that overlaps the better one by more than `nms_tiou`, 0 if
    there is none. Detections on which several members agree thus precede those of a single confident member.
    """
    pool = [detection for by_member in detections for detection in by_member]
    if not pool:
        return []
    names = sorted({detection.label for detection in pool})
    label = np.array([names.index(detection.label) for detection in pool])  # (P,)
    member = np.array([number for number, by_member in enumerate(detections) for _ in by_member])  # (P,)
    shares = np.array(weights, dtype=np.float64) / np.mean(weights)
    borders = as_array(pool)  # (P, 2)
    scores = np.array([detection.score for detection in pool], dtype=np.float64) * shares[member]
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
    fused_scores = survivors.scores
    if config.suppression == "fusion":
        fused_scores = _mean_support(borders, scores, label, member, survivors.indices, config, len(detections))
    order = np.lexsort((-survivors.scores, -fused_scores))[: config.max_detections]
    rows = zip(
        survivors.borders[order].tolist(), label[survivors.indices[order]], fused_scores[order].tolist(), strict=True
    )
    return [Detection(start, end, names[index], score) for (start, end), index, score in rows]


def _mean_support(
    borders: Floats,
    scores: Floats,
    label: NDArray[np.int64],
    member: NDArray[np.int64],
    survivors: NDArray[np.int64],
    config: LocalizeConfig,
    count: int,
) -> Floats:
    """Pool (P, 2), `survivors` (K,) of it -> (K,): the mean over `count` members of their best supporting score.

    A detection supports the survivor of its label that it overlaps most, if by more than `nms_tiou`; overlap is
    measured as in suppression.
    """
    shared = np.stack([overlaps(survivor, borders, config.overlap) for survivor in borders[survivors]])
    overlap = np.where(label[survivors][:, None] == label[None], shared, -1.0)  # (K, P)
    supported = overlap.argmax(axis=0)  # (P,) number of the survivor
    supports = overlap[supported, np.arange(len(label))] > config.nms_tiou  # (P,)
    supports[survivors], supported[survivors] = True, np.arange(len(survivors))
    best = np.full((len(survivors), count), -np.inf)
    np.maximum.at(best, (supported[supports], member[supports]), scores[supports])
    support: Floats = np.where(np.isinf(best), 0.0, best).mean(axis=1)
    return support
