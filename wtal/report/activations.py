"""Picture of a head's output for one video, snippet by snippet, with the ground truth and the resulting detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.eval.diagnosis.per_video import VideoEvaluation
from wtal.eval.thresholds import tiou_key
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.signals import Activations, class_activations
from wtal.report.page import Picture
from wtal.report.style import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY, YELLOW
from wtal.report.timeline import Bar, Bars, Curve, Curves, Track, Words, timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, YELLOW)
_CLASSES, _LEAST, _MOST = 5, 5, 50
"""Number of classes drawn; minimum and maximum number of detections."""
PART_LINES = ("--", ":", "-.")
"""Line styles for the individual streams."""


@dataclass(frozen=True)
class PicturedVideo:
    """A video to be shown, the reason (`role`), its evaluation, and the head's output on its clock."""

    role: str
    video: str
    evaluation: VideoEvaluation
    activations: Activations
    grid: SnippetGrid


def class_colours(classes: Sequence[str], shown: Sequence[str]) -> dict[str, str]:
    """Map class -> colour: fixed for few classes; for many, the first seven of those `shown` get one."""
    names = classes if len(classes) <= len(PALETTE) else shown
    return dict(zip(names, PALETTE, strict=False))


def video_picture(
    name: str, pictured: PicturedVideo, classes: Sequence[str], config: LocalizeConfig, at: float
) -> Picture:
    """Draw annotations, detections, class activations and attention of a video, over seconds.

    `config` is the localization of the detections, `at` the tIoU of the evaluation.
    """
    evaluation, best = pictured.evaluation, best_detections(pictured.evaluation)
    caption = (
        f"{pictured.role.capitalize()}: {pictured.video}, average precision {_number(evaluation.ap)}, "
        f"{sum(evaluation.recalled)} of {len(evaluation.annotations)} annotations found at tIoU {tiou_key(at)}. Filled "
        "detections are true positives, hollow ones are false positives, and numbers are scores. The picture shows the "
        f"{len(best)} best of {len(evaluation.detections)} detections, and class activations as used by localization "
        f"({config.activation}). The shaded background marks the annotations."
    )
    return Picture(name, caption, _figure(pictured, classes, config))


def best_detections(evaluation: VideoEvaluation) -> list[tuple[Any, str]]:
    """Return the detections with the highest scores, and their outcomes: twice as many as annotations, 5 to 50."""
    count = min(max(_LEAST, 2 * len(evaluation.annotations)), _MOST)
    return [*zip(evaluation.detections, evaluation.outcomes, strict=True)][:count]


def classes_shown(evaluation: VideoEvaluation, classes: Sequence[str]) -> list[str]:
    """Return the annotated classes, then those of the best detections, up to as many as can be distinguished."""
    detections = [detection for detection, _ in best_detections(evaluation)]
    names = [segment.label for segment in (*evaluation.annotations, *detections)]
    return [name for name in dict.fromkeys(names) if name in classes][:_CLASSES]


def annotation_bars(evaluation: VideoEvaluation, colours: Mapping[str, str]) -> list[Bar]:
    """Return bars of the ground truth, coloured by class."""
    return [Bar(annotation, colours.get(annotation.label, GREY)) for annotation in evaluation.annotations]


def edges_of(grid: SnippetGrid) -> NDArray[np.float64]:
    """Return (T + 1,) seconds of the borders of the snippets."""
    return grid.seconds(np.arange(grid.num_snippets + 1))


def _figure(pictured: PicturedVideo, classes: Sequence[str], config: LocalizeConfig) -> "Figure":
    shown = classes_shown(pictured.evaluation, classes)
    colours = class_colours(classes, shown)
    truth = annotation_bars(pictured.evaluation, colours)
    detections = [
        Bar(detection, colours.get(detection.label, GREY), f"{detection.score:.2f}", hollow=outcome != "true positive")
        for detection, outcome in best_detections(pictured.evaluation)
    ]
    edges, columns = edges_of(pictured.grid), {name: [*classes].index(name) for name in shown}
    tracks: list[Track] = [Bars("annotations", truth), Bars("detections", detections)]
    for stream, answer in {"": pictured.activations, **_streams(pictured.activations)}.items():
        values = class_activations(answer, config)
        curves = [Curve(edges, values[:, column], colours[name]) for name, column in columns.items()]
        tracks.append(Curves(f"cas, {stream}" if stream else "cas", curves, unit=config.activation != "none"))
    if attention := _attention(pictured.activations, edges):
        tracks.append(Curves("attention", attention))
    tracks.append(Words("video scores", _scores(pictured.activations, classes)))
    return timeline(pictured.grid.end, tracks, pictured.video, {name: colours[name] for name in shown}, truth)


def _attention(activations: Activations, edges: NDArray[np.float64]) -> list[Curve]:
    """Return the attention of the head, and dashed, that of each stream."""
    alone = {name: answer.attention for name, answer in _streams(activations).items() if answer.attention is not None}
    lines = dict(zip(alone, PART_LINES, strict=False))
    curves = [Curve(edges, alone[name], GREY, line, name) for name, line in lines.items()]
    if activations.attention is not None:
        curves.append(Curve(edges, activations.attention, INK, name="fused" if alone else ""))
    return curves


def _streams(activations: Activations) -> dict[str, Activations]:
    """Return the streams with rgb first, as in heads."""
    return {
        name: activations.streams[name] for name in sorted(activations.streams, key=lambda name: (name != "rgb", name))
    }


def _scores(activations: Activations, classes: Sequence[str], count: int = 3) -> str:
    """Format the best of the video scores as text."""
    order = np.argsort(-activations.video_scores, kind="stable")[:count]
    return ",  ".join(f"{classes[i]} {activations.video_scores[i]:.2f}" for i in order)


def _number(ap: float | None) -> str:
    return "unknown" if ap is None else f"{100 * ap:.1f} %"
