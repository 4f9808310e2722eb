"""Pseudo segments from the proposals of a training video, as a student's targets. No annotated times. No torch.

Sources: density before suppression after FuSTAL (2024), fusion after GauFuse (CVPR 2023), uncertain regions after
PseudoFormer (CVPR 2025). Times are in seconds or any other unit: nothing here depends on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Detection
from wtal.models.localization.suppression import overlaps, suppress
from wtal.models.refinement.config import SegmentsConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PAIRS_TOGETHER = 1 << 22
"""Number of pairs of proposals whose overlap is computed at once."""


def _no_borders() -> Floats:
    return np.zeros((0, 2))


@dataclass(frozen=True)
class PseudoSegments:
    """Segments of one video: `borders` (N, 2), `classes` (N,) indices, `scores` (N,), `weights` (N,) of their points.

    `ignored` (M, 2): stretches that may or may not be action.
    """

    borders: Floats = field(default_factory=_no_borders)
    classes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: Floats = field(default_factory=lambda: np.zeros(0))
    weights: Floats = field(default_factory=lambda: np.zeros(0))
    ignored: Floats = field(default_factory=_no_borders)

    @classmethod
    def joined(cls, parts: "Sequence[PseudoSegments]") -> "PseudoSegments":
        """Concatenate the segments of several classes."""
        if not parts:
            return cls()
        names = ("borders", "classes", "scores", "weights", "ignored")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types; `from_json` restores them."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PseudoSegments":
        """Restore the segments from the result of `to_json`."""
        return cls(
            np.array(values["borders"], dtype=np.float64).reshape(-1, 2),
            np.array(values["classes"], dtype=np.int64),
            np.array(values["scores"], dtype=np.float64),
            np.array(values["weights"], dtype=np.float64),
            np.array(values["ignored"], dtype=np.float64).reshape(-1, 2),
        )


def pseudo_segments(
    proposals: Sequence[Detection], classes: Sequence[str], labels: frozenset[str], config: SegmentsConfig
) -> PseudoSegments:
    """Make pseudo segments from the unsuppressed proposals of a video and its labels; other classes have none."""
    parts = []
    for index, name in enumerate(classes):
        if name not in labels:
            continue
        own = [proposal for proposal in proposals if proposal.label == name]
        borders = np.array([(proposal.start, proposal.end) for proposal in own], dtype=np.float64).reshape(-1, 2)
        scores = np.array([proposal.score for proposal in own], dtype=np.float64)
        parts.append(_of_class(borders, scores, index, config))
    return PseudoSegments.joined(parts)


def density(borders: Floats) -> Floats:
    """(P, 2) -> (P,): sum of each proposal's tIoU with all others (FuSTAL, 2024)."""
    rows = max(1, _PAIRS_TOGETHER // max(len(borders), 1))
    blocks = [borders[low : low + rows, None] for low in range(0, len(borders), rows)]
    total = [overlaps(block, borders, "tiou").sum(axis=1) for block in blocks]
    return np.concatenate([np.zeros(0), *total]) - (borders[:, 1] > borders[:, 0])


def _of_class(borders: Floats, scores: Floats, index: int, config: SegmentsConfig) -> PseudoSegments:
    """Make segments from the proposals of one class of a video, (P, 2) and (P,); at least the best, if there is any."""
    positive = scores > max(config.min_score, 0.0)
    borders, scores = borders[positive], scores[positive]
    if not len(scores):
        return PseudoSegments()
    shares = scores / scores.max()
    densities = density(borders)
    dense = densities >= min(config.min_density, densities.max())
    merged = suppress(
        borders[dense],
        shares[dense],
        np.zeros(int(dense.sum()), np.int64),
        config.merging,
        config.merge_tiou,
        temperature=config.temperature if config.merging == "fusion" else 0.0,
    )
    lasting = merged.scores >= config.min_share * merged.scores.max()
    segments, segment_shares = merged.borders[lasting], merged.scores[lasting]
    uncertain = (densities >= config.ignore_density) & (shares >= config.ignore_share)
    return PseudoSegments(
        segments,
        np.full(len(segments), index, dtype=np.int64),
        segment_shares * scores.max(),
        segment_shares if config.weighting == "score" else np.ones(len(segments)),
        union(borders[uncertain]),
    )


def union(borders: Floats) -> Floats:
    """Merge (P, 2) stretches, which may overlap, into (M, 2) disjoint ones, in order."""
    joined: list[list[float]] = []
    for start, end in borders[np.argsort(borders[:, 0], kind="stable")].tolist():
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array(joined, dtype=np.float64).reshape(-1, 2)


def unite(newer: PseudoSegments, older: PseudoSegments, most: float = 0.1) -> PseudoSegments:
    """Add to the newer segments those older ones whose tIoU with all newer ones of their class is below `most`."""
    alone = np.array(
        [
            not (overlaps(border, newer.borders[newer.classes == label], "tiou") >= most).any()
            for border, label in zip(older.borders, older.classes, strict=True)
        ],
        dtype=bool,
    )
    rest = PseudoSegments(
        older.borders[alone], older.classes[alone], older.scores[alone], older.weights[alone], older.ignored
    )
    return PseudoSegments.joined([newer, rest])


def agreement(newer: PseudoSegments, older: PseudoSegments) -> Floats:
    """Return the best tIoU (N,) of each newer segment with an older one of its class; 0 if there is none."""
    best = [
        overlaps(border, older.borders[older.classes == label], "tiou").max(initial=0.0)
        for border, label in zip(newer.borders, newer.classes, strict=True)
    ]
    return np.array(best, dtype=np.float64)
