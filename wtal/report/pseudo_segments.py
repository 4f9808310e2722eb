"""A section of a page on the segments that trained a student: number, length, confidence and accuracy by round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Annotation
from wtal.models.localization.suppression import overlaps
from wtal.report.page import PageTable, Picture, Section
from wtal.report.style import BLUE, GREEN, GREY, ORANGE, canvas, label, legend

TIOUS = (0.3, 0.5, 0.7, 0.9)
_COLOURS = (BLUE, ORANGE, GREEN)
_BINS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TaughtSegments:
    """Segments of one video in one round: `borders` (N, 2) seconds, `labels` (N,), `scores` (N,)."""

    borders: Floats
    labels: Sequence[str]
    scores: Floats


def pseudo_segment_section(
    rounds: Sequence[Mapping[str, TaughtSegments]], truth: Mapping[str, Sequence[Annotation]]
) -> Section:
    """Report on video -> segments of each round, and annotations of these videos: tables and a picture.

    Precision is the share of segments that an annotation of their class overlaps at a tIoU; recall is the share of
    annotations that a segment of their class overlaps.
    """
    text = (
        "Targets of the student in the training videos, derived from detections and the videos' labels. Annotations "
        "are used here only for evaluation; the student has not seen them."
    )
    named = {f"round {number}": videos for number, videos in enumerate(rounds, 1)}
    figures = {name: _figures(videos, truth) for name, videos in named.items()}
    table = PageTable("Segments used for training; precision and recall (%) at a tIoU", figures)
    return Section("Pseudo segments", text, (table,), (_picture(named, truth),))


def _figures(videos: Mapping[str, TaughtSegments], truth: Mapping[str, Sequence[Annotation]]) -> dict[str, str]:
    lengths, scores = _lengths(videos), _all([own.scores for own in videos.values()])
    cells = {
        "segments": f"{len(lengths)}",
        "videos": f"{sum(bool(len(own.labels)) for own in videos.values())} of {len(videos)}",
        "median length": f"{np.median(lengths):.2f} s" if len(lengths) else "",
        "median score": f"{np.median(scores):.2f}" if len(scores) else "",
    }
    if not any(truth.get(video) for video in videos):
        return cells
    right, covered = _matches(videos, truth)
    for tiou in TIOUS:
        shares = [f"{100 * np.mean(best >= tiou):.1f}" if len(best) else "-" for best in (right, covered)]
        cells[f"@{tiou:g}"] = " / ".join(shares)
    return cells


def _matches(videos: Mapping[str, TaughtSegments], truth: Mapping[str, Sequence[Annotation]]) -> tuple[Floats, Floats]:
    """Return the best tIoU of each segment with an annotation of its class, and of each annotation with a segment."""
    right, covered = [], []
    for video, own in videos.items():
        for name in {*own.labels, *(annotation.label for annotation in truth.get(video, ()))}:
            segments = own.borders[np.array([label == name for label in own.labels], dtype=bool)].reshape(-1, 2)
            annotated = np.array([(a.start, a.end) for a in truth.get(video, ()) if a.label == name]).reshape(-1, 2)
            shared = overlaps(segments[:, None], annotated, "tiou")
            right.append(shared.max(axis=1, initial=0.0))
            covered.append(shared.max(axis=0, initial=0.0))
    return _all(right), _all(covered)


def _picture(rounds: Mapping[str, Mapping[str, TaughtSegments]], truth: Mapping[str, Sequence[Annotation]]) -> Picture:
    figure, (by_length, by_score) = canvas(1, 2, 3.0)
    first = next(iter(rounds.values()), {})
    annotated = np.array([a.duration for video in first for a in truth.get(video, ())])
    lengths = {name: _lengths(videos) for name, videos in rounds.items()}
    longest = max([1e-3, *(values.max(initial=0.0) for values in (annotated, *lengths.values()))])
    edges = np.linspace(0, longest, _BINS + 1).tolist()
    if len(annotated):
        by_length.hist(annotated, edges, color=GREY, alpha=0.5, label="annotations")
    for (name, values), colour in zip(lengths.items(), _COLOURS, strict=False):
        by_length.hist(values, edges, histtype="step", linewidth=1.6, color=colour, label=name)
        scores = _all([own.scores for own in rounds[name].values()])
        by_score.hist(scores, _BINS, histtype="step", linewidth=1.6, color=colour, label=name)
    label(by_length, "seconds", "segments", "Lengths")
    label(by_score, "score", "segments", "Scores")
    legend(by_length)
    caption = (
        "Lengths and scores of the training segments, by round; in the background, the lengths of the annotations."
    )
    return Picture("pseudo-segments", caption, figure)


def _lengths(videos: Mapping[str, TaughtSegments]) -> Floats:
    return _all([own.borders[:, 1] - own.borders[:, 0] for own in videos.values()])


def _all(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])
