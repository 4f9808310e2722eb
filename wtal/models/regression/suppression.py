"""Turn a student's candidates into detections: Gaussian suppression, voting, and classes from another classifier.

Numbers are those of the public code of ActionFormer and TriDet. No torch. Borders may be in any unit; the 1e-6 that the
code adds to lengths is in grid steps, and negligible in seconds.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wtal.models.localization.suppression import overlaps, suppress

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Voting = Literal["score_and_overlap", "score"]
_LONGER = 1e-6
"""Added to the lengths of segments."""


class Detections(NamedTuple):
    """K detections of a video: `borders` (K, 2), `classes` (K,) indices, `scores` (K,)."""

    borders: Floats
    classes: Ints
    scores: Floats


def gaussian_suppression(
    borders: Floats,
    classes: Ints,
    scores: Floats,
    sigma: float = 0.5,
    min_score: float = 0.001,
    max_detections: int = 200,
    by_class: bool = True,
    voting_tiou: float | None = None,
    voting: Voting = "score_and_overlap",
) -> Detections:
    """Suppress candidates (P, 2), (P,), (P,) of one video; return detections, best first.

    Candidates lower one another's scores by a Gaussian of width `sigma`. Those whose score falls below `min_score` are
    dropped; at most `max_detections` remain per class, and per video. Without `by_class`, candidates of all classes
    suppress one another. With `voting_tiou` the borders move afterwards (`vote`). Defaults are those of THUMOS14;
    ActivityNet: 0.75, 0.001, 100, False, 0.9.
    """
    group = classes.astype(np.int64) if by_class else np.zeros(len(classes), np.int64)
    survivors = suppress(
        borders.astype(np.float64),
        scores.astype(np.float64),
        group,
        "soft",
        0.0,
        soft_sigma=sigma,
        max_detections=max_detections,
        added_length=np.full(len(scores), _LONGER),
        min_score=min_score,
    )
    order = np.argsort(-survivors.scores, kind="stable")[:max_detections]
    remaining = survivors.borders[order]
    if voting_tiou is not None:
        remaining = vote(remaining, borders.astype(np.float64), scores.astype(np.float64), voting_tiou, voting)
    return Detections(remaining, classes[survivors.indices[order]], survivors.scores[order])


def vote(borders: Floats, candidates: Floats, scores: Floats, tiou: float, weights: Voting) -> Floats:
    """(K, 2), candidates (P, 2) with scores (P,) -> (K, 2): means of the candidates that overlap each by `tiou`.

    A candidate's weight is its score times its overlap (ActionFormer), or its `score` alone (TriDet). A segment without
    such candidates is unchanged.
    """
    result = borders.copy()
    for index, segment in enumerate(borders):
        shared = overlaps(segment, candidates, "tiou")
        weight = np.where(shared >= tiou, scores * (shared if weights == "score_and_overlap" else 1.0), 0.0)
        if weight.sum() > 0:
            result[index] = weight @ candidates / weight.sum()
    return result


def with_class_scores(
    detections: Detections, class_scores: Floats, top: int = 2, max_detections: int = 200
) -> Detections:
    """Relabel detections with the `top` classes of another classifier of the video, given its scores (C,).

    Each of the best `max_detections` appears once per class, with the root of its score times the classifier's: the
    best class first, best first within each class.
    """
    best = np.argsort(-class_scores, kind="stable")[:top]
    borders, scores = detections.borders[:max_detections], detections.scores[:max_detections]
    return Detections(
        np.tile(borders, (len(best), 1)),
        np.repeat(best, len(scores)).astype(np.int64),
        np.sqrt(scores[None] * class_scores[best][:, None]).ravel(),
    )
