"""Of proposals that overlap, the worse ones go or fade. Borders are in seconds. No torch."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Overlap = Literal["tiou", "lower"]


def nms(borders: Array, scores: Array, most: float, overlap: Overlap = "tiou") -> NDArray[np.int64]:
    """(P, 2) seconds, (P,) -> indices kept, best first: each removes the worse ones that overlap it by more."""
    alive = np.argsort(-scores, kind="stable")
    kept = []
    while len(alive):
        best, rest = alive[0], alive[1:]
        kept.append(best)
        alive = rest[overlaps(borders[best], borders[rest], overlap) <= most]
    return np.array(kept, dtype=np.int64)


def soft_nms(
    borders: Array, scores: Array, sigma: float, keep: int, overlap: Overlap = "tiou"
) -> tuple[NDArray[np.int64], Array]:
    """(P, 2), (P,) -> indices and decayed scores, best first, at most `keep` (Gaussian form of Bodla et al.)."""
    scores, alive = scores.astype(np.float64).copy(), np.ones(len(scores), dtype=bool)
    kept: list[int] = []
    while alive.any() and len(kept) < keep:
        best = int(np.argmax(np.where(alive, scores, -np.inf)))
        kept.append(best)
        alive[best] = False
        scores[alive] *= np.exp(-(overlaps(borders[best], borders[alive], overlap) ** 2) / sigma)
    order = np.array(kept, dtype=np.int64)
    return order, scores[order]


def overlaps(one: Array, others: Array, kind: Overlap) -> Array:
    """(2,) and (P, 2) borders -> (P,): intersection over union, or over the length of each of the `others`.

    The latter is what FAC-Net's and RSKP's code takes: the others are the worse ones.
    """
    intersection = np.clip(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0, None)
    lengths = others[:, 1] - others[:, 0]
    whole = lengths if kind == "lower" else (one[1] - one[0]) + lengths - intersection
    result: Array = np.divide(intersection, whole, out=np.zeros_like(whole), where=whole > 0)
    return result
