"""Signals to be thresholded and scored, from the class activations of one video. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.models.localization.config import LocalizeConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Activations:
    """A head's output for one video, stored so that localization can be repeated without the head.

    `cas`: (T, C) or (T, C + 1) logits, background last. `attention`: (T,) or None. `video_scores`: (C,). `streams`:
    the same for each stream, if a head has a model per stream.
    """

    cas: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    video_scores: NDArray[np.float32]
    streams: "dict[str, Activations]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals of n classes over upsampled time, (T * upsample, n) each.

    Proposals are runs of `first` above thresholds, and of `second` if there is one; they are scored on `scored`.
    """

    first: Floats
    second: Floats | None
    scored: Floats


def class_scores(activations: Activations, config: LocalizeConfig) -> NDArray[np.floating[Any]]:
    """Return the scores (C,) that select classes and are added to the scores of their proposals."""
    if config.class_from == "video_scores":
        return activations.video_scores
    count = max(1, len(activations.cas) // config.class_top_ratio)
    classes = activations.cas[:, : len(activations.video_scores)].astype(np.float64)
    means: Floats = np.sort(classes, axis=0)[-count:].mean(axis=0)
    # A class that the video is known to lack has a score of zero, and stays excluded.
    return np.where(activations.video_scores > 0, means, -np.inf)


def select_classes(scores: NDArray[np.floating[Any]], config: LocalizeConfig) -> list[int]:
    """(C,) scores -> ascending indices of the classes to look for."""
    order = np.argsort(-scores, kind="stable")
    selected = [int(i) for i in order[scores[order] >= config.class_threshold]]
    if not selected and config.fallback and len(order) and np.isfinite(scores[order[0]]):
        selected = [int(order[0])]
    if selected == [0] and "lost-first" in config.quirks:
        return []
    return sorted(selected[: config.max_classes] if config.max_classes else selected)


def signals_of(
    activations: Activations, siblings: Sequence[Activations], classes: Sequence[int], config: LocalizeConfig
) -> Signals:
    """Return the signals of `classes`; `siblings` are the other streams, which may contribute to the scores."""
    cas = class_activations(activations, config)  # (T, C)
    attention = np.ones(len(cas)) if activations.attention is None else activations.attention.astype(np.float64)
    attention = _smooth(attention[:, None], config.smooth)  # (T, 1)
    factors = {"cas": [cas], "attention": [attention], "product": [cas, attention]}
    score_signal = config.signal if config.score_signal == "signal" else config.score_signal
    score_range = config.range if config.score_range == "same" else config.score_range
    mixes = bool(siblings) and config.stream_mix < 1
    columns = np.array(classes, dtype=np.int64)
    first = _prepare(factors[config.signal], config.range, columns, config)
    second = None
    if config.second_signal != "none":
        second = _prepare(factors[config.second_signal], config.range, columns, config)
    if (score_signal, score_range) == (config.signal, config.range) and not mixes:
        return Signals(first, second, first)
    if mixes:
        sibling_mean = np.mean([class_activations(sibling, config) for sibling in siblings], axis=0)
        mixed = config.stream_mix * cas + (1 - config.stream_mix) * sibling_mean
        factors |= {"cas": [mixed], "product": [mixed, attention]}
    return Signals(first, second, _prepare(factors[score_signal], score_range, columns, config))


def _prepare(factors: list[Floats], kind: str, columns: NDArray[np.int64], config: LocalizeConfig) -> Floats:
    """Factors (T, C) or (T, 1) -> their rescaled product in the `columns`, (T * upsample, n)."""
    from_first = "first-position" in config.quirks
    floor = "relu-range" in config.quirks
    if config.upsample_factors:
        factors = [upsample(factor, config.upsample, from_first) for factor in factors]
    signal = _columns(stretch(reduce(np.multiply, factors), kind, floor), columns)
    return signal if config.upsample_factors else upsample(signal, config.upsample, from_first)


def _columns(values: Floats, columns: NDArray[np.int64]) -> Floats:
    """(T, C), or (T, 1) common to all classes -> (T, n)."""
    selected: Floats = np.repeat(values, len(columns), axis=1) if values.shape[1] == 1 else values[:, columns]
    return selected


def upsample(values: Floats, factor: int, from_first: bool = False) -> Floats:
    """(T, C) -> (T * factor, C), linear between the snippets' middles, constant beyond the first and the last.

    With `from_first` every `factor`-th position, starting with the first, has a snippet's own value, and positions
    beyond the last are extrapolated linearly.
    """
    if factor == 1 or len(values) == 0:
        return values
    positions = np.arange(len(values) * factor) / factor
    if not from_first:
        positions = np.clip((np.arange(len(values) * factor) + 0.5) / factor - 0.5, 0, len(values) - 1)
    left = np.minimum(positions.astype(np.int64), max(len(values) - (2 if from_first else 1), 0))
    right = np.minimum(left + 1, len(values) - 1)
    share = (positions - left)[:, None]
    result: Floats = values[left] * (1 - share) + values[right] * share
    return result


def class_activations(activations: Activations, config: LocalizeConfig) -> Floats:
    """Return activated and smoothed class activations (T, C), without background."""
    activated = squash(activations.cas.astype(np.float64), config.activation)
    return _smooth(activated[:, : len(activations.video_scores)], config.smooth)


def squash(logits: Floats, kind: str) -> Floats:
    """(T, C) logits -> probabilities by `softmax` over classes or by `sigmoid`, or the logits themselves (`none`)."""
    if kind == "softmax":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax: Floats = shifted / shifted.sum(axis=1, keepdims=True)
        return softmax
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60))) if kind == "sigmoid" else logits


def stretch(values: Floats, kind: str, floor: bool = False) -> Floats:
    """Rescale (T, C) to [0, 1] by the extremes of each class or of all; constant signals become 0.

    With `floor`, extremes below 0 count as 0.
    """
    if kind == "none":
        return values
    axis = 0 if kind == "class" else None
    low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
    if floor:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    width = np.broadcast_to(high - low, values.shape)
    result: Floats = np.divide(values - low, width, out=np.zeros_like(values), where=width > 0)
    return result


def _smooth(values: Floats, sigma: float) -> Floats:
    """Convolve (T, C) in time with a Gaussian, with the end values repeated."""
    if sigma == 0:
        return values
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    columns = [np.convolve(padded[:, c], kernel / kernel.sum(), mode="valid") for c in range(values.shape[1])]
    return np.stack(columns, axis=1)
