"""Class activations to detections: threshold, group, score by outer-inner contrast, suppress. No torch.

The steps are in `proposals` and `suppression`; here is what they are told, and which signals they see.

Positions count on the activations' own time axis, upsampled by `upsample`; `SnippetGrid` alone turns them into
seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtal.config import Config
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.models.proposals import Array, Runs, outer_inner, runs_above, upsample, watershed
from wtal.models.suppression import nms, soft_nms

FUSED, UNION = "fused", "union"


class LocalizeConfig(Config):
    """Defaults follow BaS-Net (AAAI 2020) where not said otherwise."""

    streams: str = FUSED
    """Of heads with a model a stream: `fused` is their common answer, the name of a stream its own alone, `union` finds
    in each and pools what was found (STPN, CVPR 2018; FAC-Net's code)."""
    stream_weights: dict[str, float] = Field(default_factory=dict)
    """Of scores under `union`; FAC-Net's code: 0.1 for rgb, so that detections of flow come first. Others have 1."""
    stream_mix: float = Field(1.0, ge=0, le=1)
    """Under `union`: weight of a stream's own class activations in its scores, the rest the others'. STPN: 0.5."""
    union_tiou: float = Field(0.9, ge=0, le=1)
    """Hard suppression of the pool under `union`. FAC-Net's code: 0.9."""
    signal: Literal["cas", "attention", "product"] = "cas"
    """What is thresholded: a class's activation, the attention, or their product."""
    score_signal: Literal["signal", "cas", "attention", "product"] = "signal"
    """What a proposal is scored on."""
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """Applied to the class logits over classes (softmax) or each alone (sigmoid)."""
    range: Literal["none", "video", "class"] = "class"
    """Signals are stretched to [0, 1] by the extremes of each class in a video, or of the whole video."""
    score_range: Literal["same", "none", "video", "class"] = "same"
    """The same of what a proposal is scored on; `same` is what `range` says. W-TALC scores raw activations: none."""
    smooth: float = Field(0.0, ge=0)
    """Standard deviation, in snippets, of a Gaussian over the activations; ours, 0 leaves them alone."""
    upsample: int = Field(8, ge=1)
    """Linear interpolation to this many positions a snippet. BaS-Net: 24; beyond 8 results no longer move."""
    upsample_factors: bool = False
    """Upsample the two factors of `product` before they are multiplied, not their product (TSCN, HACS 2021)."""
    threshold_start: float = 0.0
    """Lowest threshold of the signal."""
    threshold_stop: float = 0.25
    """End of the thresholds, itself excluded."""
    threshold_step: float = Field(0.025, gt=0)
    """From one threshold to the next."""
    second_signal: Literal["none", "cas", "attention", "product"] = "none"
    """A second signal whose runs are proposals too, scored as the others (UM, AAAI 2021: the attention)."""
    second_start: float = 0.0
    """Lowest threshold of the second signal."""
    second_stop: float = 1.0
    """End of its thresholds, itself excluded."""
    second_step: float = Field(0.025, gt=0)
    """From one of them to the next."""
    grouping: Literal["runs", "watershed"] = "runs"
    """What is above a threshold becomes proposals as it is, or joined over gaps too (SSN, ICCV 2017; LGBM-Net)."""
    tolerances: tuple[float, ...] = Field((0.0, 0.1, 0.2, 0.3), min_length=1)
    """Of `watershed`: shares of a proposal that may lie below the threshold; 0 is the runs alone."""
    min_length: int = Field(1, ge=1)
    """Shortest run kept, in upsampled positions."""
    class_threshold: float = 0.25
    """Classes with a lower video score are left out."""
    max_classes: int = Field(0, ge=0)
    """At most this many classes a video, the best; 0 is no limit."""
    class_from: Literal["video_scores", "cas"] = "video_scores"
    """What a class's score is: the head's, or the mean of its highest logits over time (W-TALC, ECCV 2018)."""
    class_top_ratio: int = Field(8, ge=1)
    """Under `cas`: of T snippets the max(1, T // ratio) highest count."""
    fallback: bool = True
    """Keep the best class where none reaches the threshold. BaS-Net's code drops such a video."""
    inner: Literal["mean", "max"] = "mean"
    """What counts inside a proposal. W-TALC: max."""
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
    overlap: Literal["tiou", "lower"] = "tiou"
    """Intersection over union, or over the length of the worse proposal (code of FAC-Net and RSKP)."""
    nms_tiou: float = Field(0.7, ge=0, le=1)
    """Hard suppression removes what overlaps a better proposal by more."""
    soft_sigma: float = Field(0.3, gt=0)
    """Soft suppression multiplies scores by exp(-tiou^2 / sigma) (Bodla et al., ICCV 2017)."""
    max_detections: int = Field(200, ge=1)
    """Kept a video, the best."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What a head said of one video, kept so that localization can be done again without it.

    `cas`: (T, C) or (T, C + 1) logits, background last. `attention`: (T,) or None. `video_scores`: (C,). `streams`:
    the same of each stream, where a head has a model a stream.
    """

    cas: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    video_scores: NDArray[np.float32]
    streams: "dict[str, Activations]" = field(default_factory=dict)


def localize(
    activations: Activations, grid: SnippetGrid, classes: tuple[str, ...], config: LocalizeConfig
) -> list[Detection]:
    """Detections of one video in seconds, best first; ties keep the order of classes and times.

    Raises:
        UsageError: when the head has no stream of the name that `config.streams` wants.
    """
    if len(activations.cas) == 0:
        return []
    sources = _sources(activations, config)
    scores = [_class_scores(source, config) for source, _, _ in sources]
    signals = [_Signals(source, others, config) for source, others, _ in sources]
    kept = [select_classes(one, config) for one in scores]
    found = []
    for index in sorted({index for indices in kept for index in indices}):
        pool = []
        for k, (_, _, weight) in enumerate(sources):
            if index in kept[k]:
                runs, values = _proposals(signals[k], index, float(scores[k][index]), config)
                borders = grid.seconds(runs.reshape(-1), config.upsample).reshape(-1, 2)
                chosen, values = _suppress(borders, values, config)
                pool.append((borders[chosen], values * weight))
        borders, values = (np.concatenate(parts) for parts in zip(*pool, strict=True))
        if len(pool) > 1:
            chosen = nms(borders, values, config.union_tiou, config.overlap)
            borders, values = borders[chosen], values[chosen]
        found += [
            Detection(float(start), float(end), classes[index], float(score))
            for (start, end), score in zip(borders, values, strict=True)
            if end > start
        ]
    return sorted(found, key=lambda detection: -detection.score)[: config.max_detections]


def _sources(
    activations: Activations, config: LocalizeConfig
) -> list[tuple[Activations, Sequence[Activations], float]]:
    """What is looked at alone, the streams beside it, and the weight of its scores."""
    streams = activations.streams
    if config.streams == FUSED or (config.streams == UNION and not streams):
        return [(activations, (), 1.0)]
    if config.streams == UNION:
        return [
            (one, [other for key, other in streams.items() if key != name], config.stream_weights.get(name, 1.0))
            for name, one in streams.items()
        ]
    if config.streams not in streams:
        names = ", ".join((*streams, FUSED, UNION))
        raise UsageError(
            f"the head has no answer of stream {config.streams!r} alone; localize.streams is one of {names}"
        )
    return [(streams[config.streams], (), 1.0)]


def _class_scores(activations: Activations, config: LocalizeConfig) -> NDArray[np.floating[Any]]:
    """(C,): what classes are chosen by, and what is added to their proposals' scores."""
    if config.class_from == "video_scores":
        return activations.video_scores
    count = max(1, len(activations.cas) // config.class_top_ratio)
    classes = activations.cas[:, : len(activations.video_scores)].astype(np.float64)
    means: Array = np.sort(classes, axis=0)[-count:].mean(axis=0)
    # A class that the video is known not to show has a score of zero, and keeps out.
    return np.where(activations.video_scores > 0, means, -np.inf)


def select_classes(video_scores: NDArray[np.floating[Any]], config: LocalizeConfig) -> list[int]:
    """(C,) video scores -> indices of the classes to look for, rising."""
    order = np.argsort(-video_scores, kind="stable")
    kept = [int(i) for i in order if video_scores[i] >= config.class_threshold]
    if not kept and config.fallback and len(order) and np.isfinite(video_scores[order[0]]):
        kept = [int(order[0])]
    return sorted(kept[: config.max_classes] if config.max_classes else kept)


class _Signals:
    """The signals of one video on the upsampled axis, each made once."""

    def __init__(self, activations: Activations, others: Sequence[Activations], config: LocalizeConfig) -> None:
        count = len(activations.video_scores)
        cas = _classes(activations, config)
        mixed = cas
        if others and config.stream_mix < 1:
            rest = np.mean([_classes(other, config) for other in others], axis=0)
            mixed = config.stream_mix * cas + (1 - config.stream_mix) * rest
        attention = np.ones(len(cas)) if activations.attention is None else activations.attention.astype(np.float64)
        attention = np.repeat(_smooth(attention[:, None], config.smooth), count, axis=1)
        made = {"cas": [cas], "attention": [attention], "product": [cas, attention]}
        scored = made | {"cas": [mixed], "product": [mixed, attention]}
        wanted = config.signal if config.score_signal == "signal" else config.score_signal
        score_range = config.range if config.score_range == "same" else config.score_range
        self.signal = _prepare(made[config.signal], config.range, config)
        self.score = _prepare(scored[wanted], score_range, config)
        self.second = (
            None if config.second_signal == "none" else _prepare(made[config.second_signal], config.range, config)
        )


def _prepare(factors: list[Array], kind: str, config: LocalizeConfig) -> Array:
    """Factors (T, C) -> their product, stretched and upsampled."""
    if config.upsample_factors:
        return _stretch(_product([upsample(factor, config.upsample) for factor in factors]), kind)
    return upsample(_stretch(_product(factors), kind), config.upsample)


def _product(factors: list[Array]) -> Array:
    product: Array = np.prod(factors, axis=0)
    return product


def _classes(activations: Activations, config: LocalizeConfig) -> Array:
    """(T, C) activated and smoothed class activations, without background."""
    activated = _activate(activations.cas.astype(np.float64), config.activation)
    return _smooth(activated[:, : len(activations.video_scores)], config.smooth)


def _proposals(signals: _Signals, index: int, class_score: float, config: LocalizeConfig) -> tuple[Runs, Array]:
    """Segments (P, 2) [first, last + 1) of one class over all thresholds, each once, and their scores (P,)."""
    runs = _grouped(
        signals.signal[:, index], config, config.threshold_start, config.threshold_stop, config.threshold_step
    )
    if signals.second is not None:
        more = _grouped(signals.second[:, index], config, config.second_start, config.second_stop, config.second_step)
        runs = np.unique(np.concatenate([runs, more]), axis=0)
    runs = runs[runs[:, 1] - runs[:, 0] >= config.min_length]
    scores = outer_inner(signals.score[:, index], runs, config.inflation, config.outer_weight, config.inner)
    scores = scores + config.video_weight * class_score
    if config.video_power:
        scores = scores * class_score**config.video_power
    return runs, scores


def _grouped(signal: Array, config: LocalizeConfig, start: float, stop: float, step: float) -> Runs:
    thresholds = np.arange(start, stop - 1e-9, step)
    if config.grouping == "watershed":
        return watershed(signal, thresholds, config.tolerances)
    return runs_above(signal, thresholds)


def _suppress(borders: Array, scores: Array, config: LocalizeConfig) -> tuple[NDArray[np.int64], Array]:
    if config.suppression == "hard":
        kept = nms(borders, scores, config.nms_tiou, config.overlap)
        return kept, scores[kept]
    return soft_nms(borders, scores, config.soft_sigma, config.max_detections, config.overlap)


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
