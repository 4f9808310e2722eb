"""Assess a method without annotated times, by the labels of held-out videos.

Scores of a video come from a model that did not train on it. For each class, two figures measure how well they separate
the videos that show it from those that do not:

- AUC, the share of pairs (a video with the class, one without) in the correct order; ties count half. Only videos of
  the same fold are paired, since scores of different models are on different scales. 0.5 is chance.
- average precision over the videos, by rank within the fold; the share of videos with the class is chance.

Intervals are percentiles of bootstrap draws of videos within each fold. The p-value is that of the AUC under shuffled
labels within each fold (a permutation test), times the number of classes (Bonferroni), so that in a collection of
meaningless labels any class is called learned as rarely as a single class would be.

Sources: J. Hanley, B. McNeil, Radiology 143 (1982); P. Good, Permutation, Parametric and Bootstrap Tests of Hypotheses
(2005).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from wtal.config import Record, conforming
from wtal.errors import UsageError
from wtal.eval.bootstrap import CONFIDENCE, Estimate

LabelVerdict = Literal["learned", "weak", "not learned", "not known"]
Floats = NDArray[np.float64]

_DRAWS = 1000
_SHUFFLES = 4999
_SIGNIFICANT = 0.02
"""p-value, over all classes, above which a class counts as not learned."""
_ADVICE = (
    "a class that is not learned is recognized no better than by chance: trust none of its detections; more videos "
    "with and without it, or other features (--backbone), may help"
)
_LEARNED_AUC = 0.8
"""AUC from which a class that is better than chance counts as learned."""


@dataclass(frozen=True)
class ClassCheck:
    """One class: numbers of held-out videos with and without it, AUC, average precision, chance, p-value, verdict.

    The verdict is "not known" if no fold has videos of both kinds, and the figures are None; also if there are too few
    videos to distinguish even a perfect order from shuffled labels. `agreement` is the share of confident detections
    common to different seeds (`wtal.eval.agreement`); None without two seeds.
    """

    label: str
    positives: int
    negatives: int
    auc: Estimate | None
    ap: Estimate | None
    chance: float
    p: float | None
    verdict: LabelVerdict
    agreement: float | None = None

    def sentence(self) -> str:
        """Return the verdict in words."""
        if self.auc is None or self.ap is None:
            return f"{self.label}: not known: too few videos with and without it to hold some out"
        if self.verdict == "not known":
            return (
                f"{self.label}: not known: {self.positives} videos with it and {self.negatives} without are too few to "
                f"distinguish any result from chance (AUC {self.auc.value:.2f})"
            )
        figures = (
            f"AUC {self.auc.value:.2f} [{self.auc.low:.2f}, {self.auc.high:.2f}] against 0.50, average precision "
            f"{self.ap.value:.2f} against {self.chance:.2f}"
        )
        if self.agreement is not None:
            figures += f"; seeds agree on {self.agreement:.0%} of their detections"
        return f"{self.label}: {self.verdict} ({figures})"


@dataclass(frozen=True)
class LabelCheck:
    """The classes in order; `videos` were held out, in `folds` folds."""

    classes: tuple[ClassCheck, ...]
    videos: int
    folds: int

    @property
    def auc(self) -> float:
        """Mean AUC of the classes that have one; NaN if none has."""
        values = [check.auc.value for check in self.classes if check.auc is not None]
        return float(np.mean(values)) if values else float("nan")

    @property
    def verdicts(self) -> dict[str, LabelVerdict]:
        """Class -> verdict."""
        return {check.label: check.verdict for check in self.classes}

    def sentences(self) -> list[str]:
        """Return a line per class, and advice if one was not learned."""
        lines = [check.sentence() for check in self.classes]
        if "not learned" in self.verdicts.values():
            lines.append(_ADVICE)
        return lines

    def with_agreement(self, shares: Mapping[str, float]) -> "LabelCheck":
        """Return the check with the agreement of seeds per class."""
        checks = tuple(replace(check, agreement=shares.get(check.label)) for check in self.classes)
        return replace(self, classes=checks)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LabelCheck":
        """Restore a check from the result of `to_json`."""
        checks = []
        for label, figures in value["classes"].items():
            estimates = {k: None if figures[k] is None else Estimate(**figures[k]) for k in ("auc", "ap")}
            checks.append(ClassCheck(label, **{**figures, **estimates}))
        return cls(tuple(checks), value["videos"], value["folds"])

    def to_json(self) -> dict[str, Any]:
        """Convert to `{"videos": .., "folds": .., "auc": .., "classes": {label: {"verdict": .., "auc": {..}, ..}}}`."""
        classes = {check.label: {k: v for k, v in asdict(check).items() if k != "label"} for check in self.classes}
        auc = self.auc
        return {
            "videos": self.videos,
            "folds": self.folds,
            "auc": None if np.isnan(auc) else auc,
            "classes": classes,
        }


class _Interval(Record):
    """JSON form of an estimate."""

    value: float
    low: float
    high: float


class _Figures(Record):
    """JSON form of the check of a class."""

    positives: int
    negatives: int
    auc: _Interval | None
    ap: _Interval | None
    chance: float
    p: float | None
    verdict: LabelVerdict
    agreement: float | None = None


class _CheckRecord(Record):
    """JSON form of a check."""

    videos: int
    folds: int
    auc: float | None = None
    classes: dict[str, _Figures] = Field(min_length=1)


LabelCheckJson = Annotated[dict[str, Any], AfterValidator(conforming(_CheckRecord))]
"""JSON of `LabelCheck.to_json`, for records that include it."""


def check_labels(
    labels: Sequence[str], shown: NDArray[np.float64], scores: Floats, folds: NDArray[np.intp], seed: int = 0
) -> LabelCheck:
    """Check each of C labels by `shown` (V, C) in {0, 1, NaN: unknown}, scores (V, C), folds (V,).

    Raises:
        UsageError: when the shapes do not match, or a score is not finite.
    """
    size = (len(folds), len(labels))
    if shown.shape != size or scores.shape != size:
        raise UsageError(f"wanted {size} labels and scores, got {shown.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise UsageError("a held-out video has a score that is not finite")
    checks = tuple(
        _check(label, shown[:, i], scores[:, i], folds, len(labels), np.random.default_rng([seed, i]))
        for i, label in enumerate(labels)
    )
    return LabelCheck(checks, len(folds), len(set(folds.tolist())))


def _check(
    label: str, shown: Floats, scores: Floats, folds: NDArray[np.intp], classes: int, rng: np.random.Generator
) -> ClassCheck:
    known = ~np.isnan(shown)
    positives, negatives = int((shown[known] == 1).sum()), int((shown[known] == 0).sum())
    chance = positives / max(1, positives + negatives)
    strata = [known & (folds == fold) for fold in np.unique(folds)]
    strata = [rows for rows in strata if 0 < shown[rows].sum() < rows.sum()]
    if not strata:
        return ClassCheck(label, positives, negatives, None, None, chance, None, "not known")
    parts = [(shown[rows] == 1, scores[rows]) for rows in strata]
    weights = [np.ones((1, len(part))) for part, _ in parts]
    draws = [_draws(part, rng) for part, _ in parts]
    auc = float(_aucs(parts, weights)[0])
    shuffled = _shuffled_aucs(parts, rng)
    p = min(1.0, classes * (1 + int((shuffled >= auc - 1e-12).sum())) / (1 + _SHUFFLES))
    return ClassCheck(
        label,
        positives,
        negatives,
        _estimate(auc, _aucs(parts, draws)),
        _estimate(float(_aps(parts, weights)[0]), _aps(parts, draws)),
        chance,
        p,
        _verdict(auc, p, classes * _least_p(parts)),
    )


def _verdict(auc: float, p: float, least: float) -> LabelVerdict:
    if least > _SIGNIFICANT:
        return "not known"
    if p > _SIGNIFICANT:
        return "not learned"
    return "learned" if auc >= _LEARNED_AUC else "weak"


def _estimate(value: float, draws: Floats) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


Part = tuple[NDArray[np.bool_], Floats]
"""A fold with videos of both kinds: a mask of those that show the class, and the scores."""


def _least_p(parts: Sequence[Part]) -> float:
    """Return the lowest possible p-value: the share of label orders within folds as good as a perfect one."""
    orders = math.prod(math.comb(len(shown), int(shown.sum())) for shown, _ in parts)
    return 1 / orders + 1 / (1 + _SHUFFLES)


def _draws(shown: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """(n,) -> (_DRAWS, n): multiplicities of a fold's videos, drawn with replacement, each kind separately."""
    counts = np.zeros((_DRAWS, len(shown)))
    for side in (shown, ~shown):
        counts[:, side] = rng.multinomial(side.sum(), np.full(side.sum(), 1 / side.sum()), _DRAWS)
    return counts


def _aucs(parts: Sequence[Part], counts: Sequence[Floats]) -> Floats:
    """Folds, and multiplicities (N, n) of a fold's videos -> (N,) share of ordered pairs within folds."""
    wins, pairs = np.zeros(len(counts[0])), np.zeros(len(counts[0]))
    for (shown, scores), times in zip(parts, counts, strict=True):
        gaps = scores[shown][:, None] - scores[~shown]  # (positives, negatives)
        ordered = (gaps > 0) + 0.5 * (gaps == 0)
        wins += ((times[:, shown] @ ordered) * times[:, ~shown]).sum(axis=1)
        pairs += times[:, shown].sum(axis=1) * times[:, ~shown].sum(axis=1)
    return wins / pairs


def _ranks(scores: Floats) -> Floats:
    """Return ascending ranks from 1; equal scores share their mean."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return np.asarray(ranks, np.float64)


def _aps(parts: Sequence[Part], counts: Sequence[Floats]) -> Floats:
    """Folds, multiplicities (N, n) -> (N,) average precision over all folds, by rank within the fold.

    Among equal ranks the videos without the class come first.
    """
    shown = np.concatenate([part for part, _ in parts])
    share = np.concatenate([_ranks(scores) / len(scores) for _, scores in parts])
    order = np.lexsort((shown, -share))
    times = np.concatenate(counts, axis=1)[:, order]
    hits = times * shown[order]
    precision = hits.cumsum(axis=1) / np.maximum(times.cumsum(axis=1), 1e-9)
    return np.asarray((precision * hits).sum(axis=1) / hits.sum(axis=1), np.float64)


def _shuffled_aucs(parts: Sequence[Part], rng: np.random.Generator) -> Floats:
    """Return the pooled AUC (_SHUFFLES,) with the labels shuffled within each fold."""
    wins, pairs = np.zeros(_SHUFFLES), 0.0
    for shown, scores in parts:
        positives = int(shown.sum())
        order = rng.permuted(np.tile(_ranks(scores), (_SHUFFLES, 1)), axis=1)
        wins += order[:, :positives].sum(axis=1) - positives * (positives + 1) / 2
        pairs += positives * (len(shown) - positives)
    return wins / pairs


def stratified_folds(shown: Mapping[str, Sequence[str]], count: int) -> dict[str, int]:
    """Assign each video, given its labels, to a fold in 0 .. `count` - 1, so that each class is spread evenly.

    The videos of the rarest class are assigned first, each to the fold with the fewest of the class, then to the
    smallest; deterministic, by id (the iterative stratification of Sechidis, Tsoumakas and Vlahavas, ECML 2011).
    """
    folds: dict[str, int] = {}
    loads = np.zeros(count)
    counts: dict[str, NDArray[np.float64]] = {}
    unassigned = {video: set(labels) for video, labels in shown.items()}
    while unassigned:
        sizes: dict[str, int] = {}
        for labels in unassigned.values():
            for label in labels:
                sizes[label] = sizes.get(label, 0) + 1
        rarest = min(sizes, key=lambda label: (sizes[label], label)) if sizes else None
        for video in sorted(video for video, labels in unassigned.items() if rarest is None or rarest in labels):
            of_class = counts.setdefault(rarest, np.zeros(count)) if rarest is not None else loads
            fold = int(np.lexsort((np.arange(count), loads, of_class))[0])
            folds[video] = fold
            loads[fold] += 1
            for label in unassigned.pop(video):
                counts.setdefault(label, np.zeros(count))[fold] += 1
    return folds
