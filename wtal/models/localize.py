"""Class activations to detections: threshold, group, score by outer-inner contrast, suppress. No torch.

Positions count on the activations' own time axis, upsampled by `upsample`; `SnippetGrid` alone turns them into
seconds.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtal.config import Config
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection

Array = NDArray[np.float64]
Runs = NDArray[np.int64]


class LocalizeConfig(Config):
    """Defaults follow BaS-Net (AAAI 2020) where not said otherwise."""

    signal: Literal["cas", "attention", "product"] = "cas"
    """What is thresholded: a class's activation, the attention, or their product."""
    score_signal: Literal["signal", "cas", "attention", "product"] = "signal"
    """What a proposal is scored on."""
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """Applied to the class logits over classes (softmax) or each alone (sigmoid)."""
    range: Literal["none", "video", "class"] = "class"
    """Signals are stretched to [0, 1] by the extremes of each class in a video, or of the whole video."""
    smooth: float = Field(0.0, ge=0)
    """Standard deviation, in snippets, of a Gaussian over the activations; ours, 0 leaves them alone."""
    upsample: int = Field(8, ge=1)
    """Linear interpolation to this many positions a snippet. BaS-Net: 24; beyond 8 results no longer move."""
    threshold_start: float = 0.0
    """Lowest threshold of the signal."""
    threshold_stop: float = 0.25
    """End of the thresholds, itself excluded."""
    threshold_step: float = Field(0.025, gt=0)
    """From one threshold to the next."""
    min_length: int = Field(1, ge=1)
    """Shortest run kept, in upsampled positions."""
    class_threshold: float = 0.25
    """Classes with a lower video score are left out."""
    max_classes: int = Field(0, ge=0)
    """At most this many classes a video, the best; 0 is no limit."""
    fallback: bool = True
    """Keep the best class where none reaches the threshold. BaS-Net's code drops such a video."""
    inflation: float = Field(0.25, ge=0)
    """The outer region reaches this share of the proposal's length beyond each end."""
    outer_weight: float = 1.0
    """Weight of the outer mean in inner - outer."""
    video_weight: float = 0.2
    """gamma: how much of the class's video score is added."""
    video_power: float = 0.0
    """The whole score is multiplied by the video score to this power; ours, 0 leaves it alone."""
    suppression: Literal["hard", "soft"] = "hard"
    """Of proposals of one class that overlap: the worse are removed, or their scores lowered."""
    nms_tiou: float = Field(0.7, ge=0, le=1)
    """Hard suppression removes what overlaps a better proposal by more."""
    soft_sigma: float = Field(0.3, gt=0)
    """Soft suppression multiplies scores by exp(-tiou^2 / sigma) (Bodla et al., ICCV 2017)."""
    max_detections: int = Field(200, ge=1)
    """Kept a video, the best."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What a head said of one video, kept so that localization can be done again without it.

    `cas`: (T, C) or (T, C + 1) logits, background last. `attention`: (T,) or None. `video_scores`: (C,).
    """

    cas: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    video_scores: NDArray[np.float32]


def localize(
    activations: Activations, grid: SnippetGrid, classes: tuple[str, ...], config: LocalizeConfig
) -> list[Detection]:
    """Detections of one video in seconds, best first; ties keep the order of classes and times."""
    if len(activations.cas) == 0:
        return []
    signals = _Signals(activations, config)
    kept = select_classes(activations.video_scores, config)
    found = []
    for index in kept:
        runs, scores = _proposals(signals, index, float(activations.video_scores[index]), config)
        borders = grid.seconds(runs.reshape(-1), config.upsample).reshape(-1, 2)
        chosen, scores = _suppress(borders, scores, config)
        found += [
            Detection(float(start), float(end), classes[index], float(score))
            for (start, end), score in zip(borders[chosen], scores, strict=True)
            if end > start
        ]
    return sorted(found, key=lambda detection: -detection.score)[: config.max_detections]


def select_classes(video_scores: NDArray[np.floating[Any]], config: LocalizeConfig) -> list[int]:
    """(C,) video scores -> indices of the classes to look for, rising."""
    order = np.argsort(-video_scores, kind="stable")
    kept = [int(i) for i in order if video_scores[i] >= config.class_threshold]
    if not kept and config.fallback and len(order):
        kept = [int(order[0])]
    return sorted(kept[: config.max_classes] if config.max_classes else kept)


class _Signals:
    """The signals of one video on the upsampled axis, each made once."""

    def __init__(self, activations: Activations, config: LocalizeConfig) -> None:
        count = len(activations.video_scores)
        cas = _smooth(_activate(activations.cas.astype(np.float64), config.activation)[:, :count], config.smooth)
        attention = np.ones(len(cas)) if activations.attention is None else activations.attention.astype(np.float64)
        attention = _smooth(attention[:, None], config.smooth)
        made = {"cas": cas, "attention": np.repeat(attention, count, axis=1), "product": cas * attention}
        scored = config.signal if config.score_signal == "signal" else config.score_signal
        self.signal = upsample(_stretch(made[config.signal], config.range), config.upsample)
        self.score = upsample(_stretch(made[scored], config.range), config.upsample)


def _proposals(signals: _Signals, index: int, video_score: float, config: LocalizeConfig) -> tuple[Runs, Array]:
    """Runs (P, 2) [first, last + 1) of one class over all thresholds, each once, and their scores (P,)."""
    thresholds = np.arange(config.threshold_start, config.threshold_stop - 1e-9, config.threshold_step)
    runs = runs_above(signals.signal[:, index], thresholds)
    runs = runs[runs[:, 1] - runs[:, 0] >= config.min_length]
    scores = outer_inner(signals.score[:, index], runs, config.inflation, config.outer_weight)
    scores = scores + config.video_weight * video_score
    if config.video_power:
        scores = scores * video_score**config.video_power
    return runs, scores


def _suppress(borders: Array, scores: Array, config: LocalizeConfig) -> tuple[NDArray[np.int64], Array]:
    if config.suppression == "hard":
        kept = nms(borders, scores, config.nms_tiou)
        return kept, scores[kept]
    return soft_nms(borders, scores, config.soft_sigma, config.max_detections)


def upsample(values: Array, factor: int) -> Array:
    """(T, C) -> (T * factor, C), linear between the snippets' middles, constant beyond the first and the last."""
    if factor == 1:
        return values
    positions = np.clip((np.arange(len(values) * factor) + 0.5) / factor - 0.5, 0, len(values) - 1)
    left = np.minimum(positions.astype(np.int64), len(values) - 1)
    right = np.minimum(left + 1, len(values) - 1)
    share = (positions - left)[:, None]
    result: Array = values[left] * (1 - share) + values[right] * share
    return result


def runs_above(signal: Array, thresholds: Array) -> Runs:
    """(T,), (K,) -> (P, 2): the maximal runs [first, last + 1) above each threshold, without repeats, by start."""
    mask = np.zeros((len(thresholds), len(signal) + 2), dtype=np.int8)
    mask[:, 1:-1] = signal[None, :] > thresholds[:, None]
    change = np.diff(mask, axis=1)
    first, last = np.nonzero(change == 1), np.nonzero(change == -1)
    return np.unique(np.stack([first[1], last[1]], axis=1), axis=0).astype(np.int64)


def outer_inner(signal: Array, runs: Runs, inflation: float, outer_weight: float) -> Array:
    """(T,), (P, 2) -> (P,): mean inside less `outer_weight` times the mean of both rings around (AutoLoc, ECCV 2018).

    A ring is `inflation` of the run's length, at least one position, cut at the ends of the signal; where nothing is
    left outside, the outer mean is 0.
    """
    if len(runs) == 0:
        return np.zeros(0)
    total = np.concatenate([[0.0], np.cumsum(signal)])
    start, end = runs[:, 0], runs[:, 1]
    length = end - start
    ring = np.maximum(1, (inflation * length).astype(np.int64)) if inflation > 0 else np.zeros_like(length)
    low, high = np.maximum(start - ring, 0), np.minimum(end + ring, len(signal))
    inner = total[end] - total[start]
    outside = (high - low) - length
    outer = (total[high] - total[low] - inner) / np.maximum(outside, 1)
    result: Array = inner / length - outer_weight * np.where(outside > 0, outer, 0.0)
    return result


def nms(borders: Array, scores: Array, tiou: float) -> NDArray[np.int64]:
    """(P, 2) seconds, (P,) -> indices kept, best first: each removes the worse ones that overlap it by more."""
    alive = np.argsort(-scores, kind="stable")
    kept = []
    while len(alive):
        best, rest = alive[0], alive[1:]
        kept.append(best)
        alive = rest[_tiou_with(borders[best], borders[rest]) <= tiou]
    return np.array(kept, dtype=np.int64)


def soft_nms(borders: Array, scores: Array, sigma: float, keep: int) -> tuple[NDArray[np.int64], Array]:
    """(P, 2), (P,) -> indices and decayed scores, best first, at most `keep` (Gaussian form of Bodla et al.)."""
    scores, alive = scores.astype(np.float64).copy(), np.ones(len(scores), dtype=bool)
    kept: list[int] = []
    while alive.any() and len(kept) < keep:
        best = int(np.argmax(np.where(alive, scores, -np.inf)))
        kept.append(best)
        alive[best] = False
        scores[alive] *= np.exp(-(_tiou_with(borders[best], borders[alive]) ** 2) / sigma)
    order = np.array(kept, dtype=np.int64)
    return order, scores[order]


def _tiou_with(one: Array, others: Array) -> Array:
    intersection = np.clip(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0, None)
    union = (one[1] - one[0]) + (others[:, 1] - others[:, 0]) - intersection
    result: Array = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return result


def _activate(logits: Array, kind: str) -> Array:
    if kind == "softmax":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax: Array = shifted / shifted.sum(axis=1, keepdims=True)
        return softmax
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60))) if kind == "sigmoid" else logits


def _stretch(values: Array, kind: str) -> Array:
    """(T, C) -> (T, C) in [0, 1] by the extremes of each class or of all; constant signals become 0."""
    if kind == "none":
        return values
    axis = 0 if kind == "class" else None
    low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
    width = np.broadcast_to(high - low, values.shape)
    result: Array = np.divide(values - low, width, out=np.zeros_like(values), where=width > 0)
    return result


def _smooth(values: Array, sigma: float) -> Array:
    """(T, C) -> (T, C) convolved in time with a Gaussian, the ends repeated."""
    if sigma == 0:
        return values
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    columns = [np.convolve(padded[:, c], kernel / kernel.sum(), mode="valid") for c in range(values.shape[1])]
    return np.stack(columns, axis=1)
