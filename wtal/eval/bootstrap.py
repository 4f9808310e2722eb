"""Uncertainty of the difference between two detection files: a paired bootstrap over videos.

The videos are resampled with replacement, as many as there are, and both files are judged on the same draw; a video
drawn twice counts as two videos. Many draws give intervals for each file's figures and for their difference, and the
share of draws in which the first file is better. A draw without any annotation is repeated; a class without annotation
in a draw is left out of its mean. The videos are all those named by either file or by the ground truth. Equal seeds
give equal figures. True and false positives are determined once: only ranks and counts change from draw to draw, so
that a draw takes milliseconds.

The intervals are percentiles. They express the variation of the figures over other videos of the same kind, not over
training seeds.

Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtal.data.segments import Annotation, Detection, Segment
from wtal.errors import UsageError
from wtal.eval.columns import Floats, Ints
from wtal.eval.judge import judge
from wtal.eval.precision import Ranking
from wtal.eval.protocols import DEFAULT_PROTOCOL, INPUT, find_protocol
from wtal.eval.thresholds import check_tious, covered_ranges, parse_tious, tiou_key

AVERAGE = "average"
DRAWS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure on all videos, and the interval of its draws."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Both files' mAP, their difference (first minus second), and the share of draws in which the first is ahead.

    Ties count half.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    ahead: float


@dataclass(frozen=True)
class PairedBootstrap:
    """`figures`: threshold, range (`0.1:0.7`) or `average` -> difference."""

    figures: dict[str, Difference]
    draws: int
    seed: int
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Convert everything to JSON types, in fractions."""
        by_figure = {
            key: {
                **{name: vars(getattr(difference, name)) for name in ("first", "second", "difference")},
                "ahead": difference.ahead,
            }
            for key, difference in self.figures.items()
        }
        return {"mAP": by_figure, "draws": self.draws, "seed": self.seed, "confidence": self.confidence}


def compare_detections(
    annotations: Mapping[str, Sequence[Annotation]],
    first: Mapping[str, Sequence[Detection]],
    second: Mapping[str, Sequence[Detection]],
    tious: Sequence[float] | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    ambiguous: Mapping[str, Sequence[Segment]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    ties: str = INPUT,
) -> PairedBootstrap:
    """Judge two files on the same draws of videos; the other parameters are those of `evaluate_detections`.

    Raises:
        UsageError: as there, or when there is no draw or `confidence` is not between 0 and 1.
    """
    if draws < 1 or not 0 < confidence < 1:
        raise UsageError(f"wanted at least one draw and a confidence between 0 and 1, got {draws} and {confidence}")
    rules = find_protocol(protocol, ties)
    thresholds = parse_tious(rules.tious) if tious is None else check_tious(tious)
    videos = {*first, *second}
    rankings = [
        judge(annotations, detections, thresholds, rules, ambiguous or {}, videos).ranking
        for detections in (first, second)
    ]
    means = _means(thresholds)
    on_all = np.array([_figures(ranking, None, means) for ranking in rankings])
    on_draws = np.array(
        [[_figures(ranking, weights, means) for ranking in rankings] for weights in _weights(rankings[0], draws, seed)]
    )
    return PairedBootstrap(_differences([*means], on_all, on_draws, confidence), draws, seed, confidence)


def _means(tious: Sequence[float]) -> dict[str, list[int]]:
    """Map the name of a figure to the indices of the thresholds over which it is the mean."""
    positions = {tiou: i for i, tiou in enumerate(tious)}
    ranges = {name: [positions[tiou] for tiou in inside] for name, inside in covered_ranges(tious).items()}
    return {**{tiou_key(tiou): [i] for tiou, i in positions.items()}, **ranges, AVERAGE: [*positions.values()]}


def _figures(ranking: Ranking, weights: Ints | None, means: Mapping[str, list[int]]) -> list[float]:
    by_tiou = np.nanmean(ranking.average_precision(weights), axis=1)
    return [float(by_tiou[positions].mean()) for positions in means.values()]


def _weights(ranking: Ranking, draws: int, seed: int) -> Iterator[Ints]:
    """Yield the multiplicity of each video in each draw, (V,)."""
    _, annotated = ranking.truth
    videos, rng = ranking.videos, np.random.Generator(np.random.PCG64(seed))
    for _ in range(draws):
        weights = np.zeros(videos, np.intp)
        while not weights[annotated].any():
            weights = np.bincount(rng.integers(videos, size=videos), minlength=videos)
        yield weights


def _differences(names: Sequence[str], on_all: Floats, on_draws: Floats, confidence: float) -> dict[str, Difference]:
    """Compute differences by name from figures (2, F) on all videos and (draws, 2, F) on those drawn."""
    by_name = {}
    for i, name in enumerate(names):
        values, gap = on_draws[:, :, i], on_draws[:, 0, i] - on_draws[:, 1, i]
        ahead = float(np.mean(gap > 0) + np.mean(gap == 0) / 2)
        by_name[name] = Difference(
            _estimate(on_all[0, i], values[:, 0], confidence),
            _estimate(on_all[1, i], values[:, 1], confidence),
            _estimate(on_all[0, i] - on_all[1, i], gap, confidence),
            ahead,
        )
    return by_name


def _estimate(value: float, draws: Floats, confidence: float) -> Estimate:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))
