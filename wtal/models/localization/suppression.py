"""Of proposals that overlap, the worse ones go, fade or give their borders. Borders are in seconds. No torch.

Proposals come in groups (the classes of videos), which do not see one another. All groups go forward together, by one
best proposal each at a time.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Overlap = Literal["tiou", "lower"]


class Kept(NamedTuple):
    """What is left, by group, best first: indices (K,), borders (K, 2), scores (K,)."""

    indices: Ints
    borders: Array
    scores: Array


def suppress(
    borders: Array,
    scores: Array,
    group: Ints,
    kind: Literal["hard", "soft", "linear", "fusion"],
    most: float,
    sigma: float = 0.3,
    keep: int = 200,
    overlap: Overlap = "tiou",
    plus: Array | None = None,
) -> Kept:
    """(P, 2) seconds, scores (P,), groups (P,) -> what is left.

    `most` is the overlap up to which two may stand side by side, `sigma` the width of the Gaussian of `soft`, `keep`
    the number that fading keeps of a group. `plus` (P,) seconds are added to lengths and intersections.
    """
    if plus is None:
        plus = np.zeros(len(scores))
    else:  # lengths that are whole in snippets are not in seconds: what is equal but for rounding is equal
        most += 1e-9
    if kind in ("hard", "fusion"):
        return _removed(borders, scores, group, most, overlap, plus, kind == "fusion")
    index, faded = _faded(borders, scores, group, most, None if kind == "linear" else sigma, keep, overlap, plus)
    return Kept(index, borders[index], faded)


def nms(borders: Array, scores: Array, most: float, overlap: Overlap = "tiou") -> Ints:
    """(P, 2) seconds, (P,) -> indices kept, best first: each removes the worse ones that overlap it by more."""
    return suppress(borders, scores, np.zeros(len(scores), np.int64), "hard", most, overlap=overlap).indices


def soft_nms(borders: Array, scores: Array, sigma: float, keep: int, overlap: Overlap = "tiou") -> tuple[Ints, Array]:
    """(P, 2), (P,) -> indices and decayed scores, best first, at most `keep` (Gaussian form of Bodla et al.)."""
    group = np.zeros(len(scores), np.int64)
    kept = suppress(borders, scores, group, "soft", 1.0, sigma, keep, overlap)
    return kept.indices, kept.scores


def overlaps(one: Array, others: Array, kind: Overlap) -> Array:
    """(2,) or (P, 2) and (P, 2) borders -> (P,): intersection over union, or over the length of each of the `others`.

    The latter is what FAC-Net's and RSKP's code takes: the others are the worse ones.
    """
    return _overlap(one[..., 0], one[..., 1], others[:, 0], others[:, 1], kind, 0.0)


def _overlap(start: Array, end: Array, starts: Array, ends: Array, kind: Overlap, plus: Array | float) -> Array:
    intersection = np.clip(np.minimum(end, ends) - np.maximum(start, starts) + plus, 0, None)
    whole = ends - starts + plus
    if kind == "tiou":
        whole = (end - start + plus) + whole - intersection
    result: Array = np.divide(intersection, whole, out=np.zeros_like(whole), where=whole > 0)
    return result


def _removed(
    borders: Array, scores: Array, group: Ints, most: float, overlap: Overlap, plus: Array, fuse: bool
) -> Kept:
    """Each best of a group takes out the worse that overlap it by more; with `fuse` they move its borders."""
    order = np.lexsort((-scores, group))
    better, worse = _conflicts(borders[order], group[order], most, overlap, plus[order])
    kept = np.flatnonzero(_greedy(better, worse, len(scores)))
    places = borders[order[kept]]
    if fuse:
        places = _fused(borders[order], scores[order], better, worse, kept)
    return Kept(order[kept], places, scores[order[kept]])


def _conflicts(borders: Array, group: Ints, most: float, overlap: Overlap, plus: Array) -> tuple[Ints, Ints]:
    """Ranked (P, 2), groups rising -> the pairs of one group that overlap by more: numbers of the better, the worse.

    In order of starts, what may overlap a proposal follows it in a row: compared are all with the next, with the one
    after it, and so on, as long as any begin early enough.
    """
    order = np.lexsort((borders[:, 0], group))
    start, end, more = borders[order, 0], borders[order, 1], plus[order]
    # The intersection must exceed its share of the first one's length at least. A little more, for rounding.
    reach = end + more - (most * (end - start + more) if overlap == "tiou" else 0.0)
    reach += 1e-9 * (1 + np.abs(end))
    limit = np.searchsorted(group[order], group[order], side="right")
    first = np.arange(len(order))
    better, worse = [first[:0]], [first[:0]]
    step = 0
    while len(first):
        step += 1
        first = first[first + step < limit[first]]
        first = first[start[first + step] <= reach[first]]
        after = first + step
        swapped = order[first] > order[after]
        one, other = np.where(swapped, after, first), np.where(swapped, first, after)
        close = _overlap(start[one], end[one], start[other], end[other], overlap, more[one]) > most
        better.append(order[one[close]])
        worse.append(order[other[close]])
    return np.concatenate(better), np.concatenate(worse)


def _greedy(better: Ints, worse: Ints, count: int) -> NDArray[np.bool_]:
    """Pairs of which one takes the other out -> (P,) what is left when the best go first.

    What nothing better threatens stays and takes out what it threatens; that frees others, and so on.
    """
    left = np.ones(count, dtype=bool)
    while len(better):
        threatened = np.zeros(count, dtype=bool)
        threatened[worse] = True
        left[worse[~threatened[better]]] = False
        open_ = threatened[better] & left[better] & left[worse]
        better, worse = better[open_], worse[open_]
    return left


def _heads(group: Ints) -> tuple[Ints, Ints]:
    """(P,) in order -> where each group begins (G,), and how long it is (G,)."""
    head = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    return head, np.diff(head, append=len(group))


def _fused(borders: Array, scores: Array, better: Ints, worse: Ints, kept: Ints) -> Array:
    """(K, 2): of each that is kept and what it took out, the mean of borders weighted by scores above 0."""
    taker = np.arange(len(scores))
    stays = np.zeros(len(scores), dtype=bool)
    stays[kept] = True
    by = stays[better]
    taker[worse[by]] = len(scores)
    np.minimum.at(taker, worse[by], better[by])
    weight = np.maximum(scores, 0.0)
    total = np.bincount(taker, weight, len(scores))[kept]
    means = [np.bincount(taker, weight * values, len(scores))[kept] for values in borders.T]
    sums = np.stack(means, axis=1)
    return np.divide(sums, total[:, None], out=borders[kept], where=total[:, None] > 0)


def _faded(
    borders: Array,
    scores: Array,
    group: Ints,
    most: float,
    sigma: float | None,
    keep: int,
    overlap: Overlap,
    plus: Array,
) -> tuple[Ints, Array]:
    """Each best of a group lowers the others by their overlap; the Gaussian form with a `sigma`, else the linear."""
    alive = np.argsort(group, kind="stable")
    left = scores.astype(np.float64)[alive]
    start, end, number, more = borders[alive, 0], borders[alive, 1], group[alive], plus[alive]
    kept, faded = [alive[:0]], [left[:0]]
    for _ in range(keep):
        if len(alive) == 0:
            break
        head, count = _heads(number)
        top = np.flatnonzero(left == np.repeat(np.maximum.reduceat(left, head), count))
        top = top[_heads(number[top])[0]]  # the first of equals
        kept.append(alive[top])
        faded.append(left[top])
        first, last = np.repeat(start[top], count), np.repeat(end[top], count)
        shared = _overlap(first, last, start, end, overlap, more)
        left = left * (np.where(shared > most, 1 - shared, 1) if sigma is None else np.exp(-(shared**2) / sigma))
        rest = np.ones(len(alive), dtype=bool)
        rest[top] = False
        alive, number, left, start, end, more = (
            alive[rest],
            number[rest],
            left[rest],
            start[rest],
            end[rest],
            more[rest],
        )
    index, values = np.concatenate(kept), np.concatenate(faded)
    order = np.argsort(group[index], kind="stable")
    return index[order], values[order]
