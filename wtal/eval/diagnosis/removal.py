"""Cost of each kind of false positive: mean average precision without it.

No false positive blocks an annotation for another detection, so removing some changes no match, only the number of
false positives before each true one. Removing all of them turns average precision into recall.

`alone` is the gain in mAP from removing one kind only, as reported by Alwassel et al. These gains do not add up to that
of all kinds, since a true positive ranks low for several reasons at once. `shared` does: each kind's gain averaged over
all orders of removal (Shapley value), so that mAP, the shares and the missing recall sum to exactly 1.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

from wtal.eval.columns import Floats, Ints
from wtal.eval.diagnosis.outcomes import ERRORS, OutcomeCodes
from wtal.eval.precision import Ranking, ordinals

_KINDS = len(ERRORS)
_EVERY = (1 << _KINDS) - 1


@dataclass(frozen=True)
class Removal:
    """At K thresholds, as fractions: mAP (K,), gains of each kind (K, 5) in two ways, mean recall of classes (K,)."""

    mean_ap: Floats
    alone: Floats
    shared: Floats
    recall: Floats


def false_before(ranking: Ranking, codes: OutcomeCodes) -> Ints:
    """(K, N) -> (5, T): count the false positives of each kind ranked before each true positive of its class."""
    threshold, detection = ranking.hits
    first = np.searchsorted(ranking.label, np.arange(ranking.classes))[ranking.label[detection]]
    rows = np.searchsorted(threshold, np.arange(ranking.thresholds + 1))
    before = np.empty((_KINDS, len(detection)), np.intp)
    for k in range(ranking.thresholds):
        rows_of_k = slice(rows[k], rows[k + 1])
        for kind in range(_KINDS):
            running = np.cumsum(codes[k] == kind + 1)  # does not include true positives
            start = first[rows_of_k]
            before[kind, rows_of_k] = running[detection[rows_of_k]] - np.where(start > 0, running[start - 1], 0)
    return before


def removal(ranking: Ranking, before: Ints) -> Removal:
    """Compute the cost of every kind of error; `before` (5, T) is the result of `false_before`."""
    value = np.array([_mean_ap(ranking, before, kinds) for kinds in range(_EVERY + 1)])
    alone = np.stack([value[1 << kind] - value[0] for kind in range(_KINDS)], axis=1)
    shared = np.stack([_shapley(value, kind) for kind in range(_KINDS)], axis=1)
    return Removal(value[0], alone, shared, value[_EVERY])


def _mean_ap(ranking: Ranking, before: Ints, removed: int) -> Floats:
    """Return mAP (K,) without the kinds whose bits are set in `removed`."""
    remaining = [kind for kind in range(_KINDS) if not removed >> kind & 1]
    segment = ranking.segment
    hits = ordinals(segment)
    positives = np.bincount(ranking.truth[0], minlength=ranking.classes).astype(np.float64)
    by_class = ranking.mean_precision(hits / (hits + before[remaining].sum(axis=0)), segment, positives)
    return np.array([row.mean() for row in by_class])


def _shapley(value: Floats, kind: int) -> Floats:
    """(32, K) mAP without each set of kinds -> (K,) the gain of one kind, averaged over all orders."""
    bit, total = 1 << kind, np.zeros(value.shape[1])
    for others in range(_EVERY + 1):
        if not others & bit:
            size = others.bit_count()
            weight = factorial(size) * factorial(_KINDS - size - 1) / factorial(_KINDS)
            total += weight * (value[others | bit] - value[others])
    return total
