"""Average recall at an average number of proposals (AR@AN), and the area under its curve, by ActivityNet's definition.

Classes are ignored: every detection is a proposal. An annotation is recalled if any of the selected proposals reaches
the threshold; one proposal may recall several. The best-scored proposals of each video are selected, the same share in
all videos, so that their number is an average over videos, not that of each. Recall is over all annotations, its
average over the thresholds. The area is that under average recall between one hundredth of the maximum number of
proposals and all of them, as a fraction of the latter.

Equal scores stay in the order of the input (in the original, that of an unstable sort, backwards).

Source: Evaluation/eval_proposal.py of https://github.com/activitynet/ActivityNet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtal.data.segments import Annotation, Detection, tiou_pairs
from wtal.errors import UsageError
from wtal.eval.columns import Columns, Floats, Ints, ScoredColumns, codes, columns, scored_columns
from wtal.eval.matching import find_pairs
from wtal.eval.thresholds import check_tious, parse_tious, tiou_key

PROPOSAL_TIOUS = "0.5:0.95:0.05"
MOST_PROPOSALS = 100.0
"""Maximum average number of proposals per video: the challenge's."""

_SHOWN = (1, 5, 10, 50, 100)
_STEPS = 100


@dataclass(frozen=True)
class ProposalEvaluation:
    """`numbers` (S,): average numbers of proposals; `recall` (K, S): at each of K thresholds; all fractions."""

    tious: tuple[float, ...]
    numbers: Floats
    recall: Floats

    @property
    def average_recall(self) -> Floats:
        """Average recall over the thresholds, (S,)."""
        return np.asarray(self.recall.mean(axis=0))

    @property
    def area(self) -> float:
        """Area under average recall against the number of proposals, as a fraction of their maximum number."""
        heights, steps = self.average_recall, np.diff(self.numbers)
        return float(((heights[1:] + heights[:-1]) / 2 * steps).sum() / self.numbers[-1])

    @property
    def recall_at(self) -> dict[int, float]:
        """AR@AN: 1, 5, 10, 50, 100, if the curve includes them -> average recall."""
        columns = {number: np.flatnonzero(np.isclose(self.numbers, number)) for number in _SHOWN}
        return {number: float(self.average_recall[matches[0]]) for number, matches in columns.items() if len(matches)}

    def to_json(self) -> dict[str, Any]:
        """Convert to `{"AR": {"1": ..}, "area": .., "recall": {"0.5": {"1": ..}}}`, in fractions."""
        columns = {number: int(np.flatnonzero(np.isclose(self.numbers, number))[0]) for number in self.recall_at}
        return {
            "AR": {str(number): value for number, value in self.recall_at.items()},
            "area": self.area,
            "recall": {
                tiou_key(tiou): {str(number): float(row[column]) for number, column in columns.items()}
                for tiou, row in zip(self.tious, self.recall, strict=True)
            },
        }


def evaluate_proposals(
    annotations: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    tious: Sequence[float] | None = None,
    most: float | None = MOST_PROPOSALS,
) -> ProposalEvaluation:
    """Compute the recall of detections as proposals, in seconds by video id.

    `most` is the maximum average number per video; None uses all.

    Raises:
        UsageError: when there is no annotation, or a threshold is outside (0, 1].
    """
    thresholds = parse_tious(PROPOSAL_TIOUS) if tious is None else check_tious(tious)
    annotated = {video: segments for video, segments in annotations.items() if segments}
    if not annotated:
        raise UsageError("there is no annotation to score against; choose a subset with segments")
    video_codes = codes([*annotated])
    truth = columns(annotated, video_codes, None)
    detected = {video: segments for video, segments in detections.items() if video in annotated}
    proposals = scored_columns(detected, video_codes, None)
    total = sum(map(len, detections.values()))
    limit = most * len(annotated) if most else max(total, 1)
    segments, rank, counts = _best_ranked(proposals, limit / max(total, 1), len(annotated))
    share = np.arange(1, _STEPS + 1) / _STEPS * (limit / max(counts.sum(), 1))
    limits = np.minimum((counts[:, None] * share).astype(np.intp), counts[:, None])[truth.video]
    first = _first_hits(segments, rank, truth, thresholds)
    recall = np.array([(row[:, None] < limits).mean(axis=0) for row in first])
    return ProposalEvaluation(thresholds, np.arange(1, _STEPS + 1) / _STEPS * (limit / len(annotated)), recall)


def _best_ranked(proposals: ScoredColumns, share: float, videos: int) -> tuple[ScoredColumns, Ints, Ints]:
    """Select the best of each video; return them with their ranks in it, from 0, and the numbers selected, (V,)."""
    ranked = proposals.take(np.lexsort((-proposals.score, proposals.video)))
    count = np.bincount(ranked.video, minlength=videos)
    rank = np.arange(len(ranked)) - np.repeat(np.cumsum(count) - count, count)
    keep = np.minimum((count * share).astype(np.intp), count)
    inside = rank < keep[ranked.video]
    return ranked.take(inside), rank[inside], keep


def _first_hits(proposals: ScoredColumns, rank: Ints, truth: Columns, tious: Sequence[float]) -> Ints:
    """(K, M): the rank of the best proposal that recalls each annotation; the number of proposals if none does."""
    first = np.full((len(tious), len(truth)), len(proposals))
    pairs = find_pairs(proposals, truth, tiou_pairs, min(tious))
    for row, tiou in zip(first, tious, strict=True):
        fitting = pairs.take(pairs.overlap >= tiou)
        np.minimum.at(row, fitting.annotation, rank[fitting.detection])
    return first
