"""Suppress overlapping proposals: remove, down-weight or merge the lower-scored ones. No torch.

Borders are in seconds. Proposals are in independent groups (the classes of videos). All groups advance together, by the
best remaining proposal of each.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Overlap = Literal["tiou", "lower"]
Kind = Literal["hard", "soft", "linear", "fusion", "none"]


class Survivors(NamedTuple):
    """The K proposals left by suppression, by group, best first: indices (K,), borders (K, 2), scores (K,)."""

    indices: Ints
    borders: Floats
    scores: Floats


def suppress(
    borders: Floats,
    scores: Floats,
    group: Ints,
    kind: Kind,
    nms_tiou: float,
    soft_sigma: float = 0.3,
    max_detections: int = 200,
    overlap: Overlap = "tiou",
    added_length: Floats | None = None,
    temperature: float = 0.0,
    support: Floats | None = None,
    min_score: float | None = None,
) -> Survivors:
    """Suppress proposals with borders (P, 2) in seconds, scores (P,) and groups (P,).

    Two proposals of a group may overlap by up to `nms_tiou`; `soft_sigma` is the width of the Gaussian of `soft` (Bodla
    et al., ICCV 2017), and `soft` and `linear` keep `max_detections` per group, but no proposal whose score falls below
    `min_score`. `added_length` (P,), in seconds, is added to lengths and intersections. `fusion` weights borders by
    scores; with a `temperature` above 0 it weights borders and scores by exp(`support` / temperature), where `support`
    (P,) defaults to the scores (GauFuse, CVPR 2023). `none` only sorts.
    """
    if added_length is None:
        added_length = np.zeros(len(scores))
    else:  # lengths that are whole in snippets are not in seconds: tolerate rounding
        nms_tiou += 1e-9
    if kind == "none":
        order = np.lexsort((-scores, group))
        return Survivors(order, borders[order], scores[order])
    if kind in ("hard", "fusion"):
        weight = None
        if kind == "fusion":
            support = scores if support is None else support
            weight = _exponential(support, group, temperature) if temperature else np.maximum(scores, 0.0)
        return _remove(borders, scores, group, nms_tiou, overlap, added_length, weight, bool(temperature))
    sigma = None if kind == "linear" else soft_sigma
    floor = -np.inf if min_score is None else min_score
    indices, lowered = _lower(borders, scores, group, nms_tiou, sigma, max_detections, overlap, added_length, floor)
    return Survivors(indices, borders[indices], lowered)


def nms(borders: Floats, scores: Floats, nms_tiou: float, overlap: Overlap = "tiou") -> Ints:
    """(P, 2) seconds, (P,) -> kept indices, best first: each removes worse ones that overlap it by more."""
    return suppress(borders, scores, np.zeros(len(scores), np.int64), "hard", nms_tiou, overlap=overlap).indices


def overlaps(better: Floats, worse: Floats, kind: Overlap) -> Floats:
    """(..., 2) and (P, 2) borders -> (..., P): intersection over union, or over the length of each of the `worse`.

    The latter is the measure in FAC-Net's and RSKP's code.
    """
    return _overlap(better[..., 0], better[..., 1], worse[:, 0], worse[:, 1], kind, 0.0)


def _overlap(
    better_start: Floats,
    better_end: Floats,
    worse_start: Floats,
    worse_end: Floats,
    kind: Overlap,
    added_length: Floats | float,
) -> Floats:
    """Borders, (P,) each -> (P,)."""
    shared = np.minimum(better_end, worse_end) - np.maximum(better_start, worse_start) + added_length
    intersection = np.clip(shared, 0, None)
    divisor = worse_end - worse_start + added_length
    if kind == "tiou":
        divisor = (better_end - better_start + added_length) + divisor - intersection
    result: Floats = np.divide(intersection, divisor, out=np.zeros_like(divisor), where=divisor > 0)
    return result


def _exponential(support: Floats, group: Ints, temperature: float) -> Floats:
    """(P,) -> weights (P,): exp(support / temperature), up to a factor per group that keeps them finite."""
    _, member = np.unique(group, return_inverse=True)
    highest = np.full(member.max(initial=-1) + 1, -np.inf)
    np.maximum.at(highest, member, support)
    weight: Floats = np.exp((support - highest[member]) / temperature)
    return weight


def _remove(
    borders: Floats,
    scores: Floats,
    group: Ints,
    nms_tiou: float,
    overlap: Overlap,
    added_length: Floats,
    weight: Floats | None,
    weighs_scores: bool,
) -> Survivors:
    """Let the best of a group remove worse ones that overlap by more; with a `weight` (P,), merge their borders."""
    order = np.lexsort((-scores, group))
    better, worse = _conflicts(borders[order], group[order], nms_tiou, overlap, added_length[order])
    ranks = np.flatnonzero(_survive(better, worse, len(scores)))  # (K,) positions in `order`
    rows = np.column_stack([borders, scores])[order]  # (P, 3)
    survivors = rows[ranks]
    if weight is not None:
        survivors = _merged(rows, weight[order], better, worse, ranks)
    lasting_scores = survivors[:, 2] if weighs_scores else scores[order[ranks]]
    return Survivors(order[ranks], survivors[:, :2], lasting_scores)


def _conflicts(
    borders: Floats, group: Ints, nms_tiou: float, overlap: Overlap, added_length: Floats
) -> tuple[Ints, Ints]:
    """Ranked (P, 2), groups ascending -> ranks of the better and the worse of the Q pairs that overlap by more.

    Sorted by start, the proposals that may overlap a given one follow it without a gap: each is compared with the next,
    with the one after it, and so on, as long as any of these begins early enough.
    """
    order = np.lexsort((borders[:, 0], group))  # by start; its values are ranks
    start, end, added = borders[order, 0], borders[order, 1], added_length[order]
    # The intersection must exceed at least its share of the first one's length. A little more, for rounding.
    reach = end + added - (nms_tiou * (end - start + added) if overlap == "tiou" else 0.0)
    reach += 1e-9 * (1 + np.abs(end))
    group_end = np.searchsorted(group[order], group[order], side="right")  # (P,)
    first = np.arange(len(order))  # positions in `order` that may have a partner `step` further on
    better_ranks, worse_ranks = [first[:0]], [first[:0]]
    step = 0
    while len(first):
        step += 1
        first = first[first + step < group_end[first]]
        first = first[start[first + step] <= reach[first]]
        second = first + step
        swapped = order[first] > order[second]
        better, worse = np.where(swapped, second, first), np.where(swapped, first, second)
        shared = _overlap(start[better], end[better], start[worse], end[worse], overlap, added[better])
        conflicting = shared > nms_tiou
        better_ranks.append(order[better[conflicting]])
        worse_ranks.append(order[worse[conflicting]])
    return np.concatenate(better_ranks), np.concatenate(worse_ranks)


def _survive(better: Ints, worse: Ints, count: int) -> NDArray[np.bool_]:
    """(Q,) pairs, the better of which removes the worse -> mask (P,) of the survivors when the best act first.

    A proposal not threatened by a better one stays and removes all that it threatens; that frees others, and so on.
    """
    alive = np.ones(count, dtype=bool)
    while len(better):
        threatened = np.zeros(count, dtype=bool)
        threatened[worse] = True
        alive[worse[~threatened[better]]] = False
        undecided = threatened[better] & alive[better] & alive[worse]
        better, worse = better[undecided], worse[undecided]
    return alive


def _group_bounds(group: Ints) -> tuple[Ints, Ints]:
    """Sorted groups (P,) -> the position where each begins (G,), and its size (G,)."""
    begin = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    return begin, np.diff(begin, append=len(group))


def _merged(rows: Floats, weight: Floats, better: Ints, worse: Ints, survivors: Ints) -> Floats:
    """(P, n) -> (K, n): mean of the rows of each survivor and those it removed, by `weight` (P,)."""
    weight = np.ldexp(weight, -np.frexp(weight.max(initial=0.0))[1])  # exact, and keeps products and sums finite
    remover = np.arange(len(weight))  # (P,) the remover of each; survivors have themselves
    survives = np.zeros(len(weight), dtype=bool)
    survives[survivors] = True
    by_survivor = survives[better]
    remover[worse[by_survivor]] = len(weight)
    np.minimum.at(remover, worse[by_survivor], better[by_survivor])
    total = np.bincount(remover, weight, len(weight))[survivors]
    sums = [np.bincount(remover, weight * column, len(weight))[survivors] for column in rows.T]
    weighted = np.stack(sums, axis=1)
    return np.divide(weighted, total[:, None], out=rows[survivors], where=total[:, None] > 0)


def _lower(
    borders: Floats,
    scores: Floats,
    group: Ints,
    nms_tiou: float,
    sigma: float | None,
    max_detections: int,
    overlap: Overlap,
    added_length: Floats,
    floor: float,
) -> tuple[Ints, Floats]:
    """Lower the others of a group by their overlap with the best: by a Gaussian of width `sigma`, linearly if None.

    Proposals that fall below `floor` are dropped. Returns indices (K,) and lowered scores (K,), by group.
    """
    alive = np.argsort(group, kind="stable")  # (A,) indices of the proposals not yet chosen, by group
    score = scores.astype(np.float64)[alive]
    start, end, alive_group, added = borders[alive, 0], borders[alive, 1], group[alive], added_length[alive]
    chosen, chosen_scores = [alive[:0]], [score[:0]]
    for _ in range(max_detections):
        if len(alive) == 0:
            break
        begin, size = _group_bounds(alive_group)
        top = np.flatnonzero(score == np.repeat(np.maximum.reduceat(score, begin), size))
        top = top[_group_bounds(alive_group[top])[0]]  # the first of equals, one per group
        chosen.append(alive[top])
        chosen_scores.append(score[top])
        shared = _overlap(np.repeat(start[top], size), np.repeat(end[top], size), start, end, overlap, added)
        score = score * (np.where(shared > nms_tiou, 1 - shared, 1) if sigma is None else np.exp(-(shared**2) / sigma))
        rest = score >= floor
        rest[top] = False
        alive, alive_group, score = alive[rest], alive_group[rest], score[rest]
        start, end, added = start[rest], end[rest], added[rest]
    indices, lowered = np.concatenate(chosen), np.concatenate(chosen_scores)
    order = np.argsort(group[indices], kind="stable")
    return indices[order], lowered[order]
