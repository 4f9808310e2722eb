"""Pseudo labels given by a method to the snippets of a video, with their components and the ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wtal.report.activations import PART_LINES, PicturedVideo, annotation_bars, class_colours, edges_of
from wtal.report.page import Picture
from wtal.report.style import GREY, INK
from wtal.report.timeline import Bars, Curve, Curves, Track, timeline

Values = NDArray[np.float32]


def pseudo_label_picture(
    name: str, pictured: PicturedVideo, stages: Mapping[str, Mapping[str, Values]], classes: Sequence[str]
) -> Picture:
    """Draw stage -> name -> values: class probabilities (T, C), one track each; action (T,), one track for all.

    Only classes shown in the video are drawn; the last action is the pseudo label, drawn in the background.
    """
    labels = list(
        dict.fromkeys(annotation.label for annotation in pictured.evaluation.annotations if annotation.label in classes)
    )
    colours = class_colours(classes, labels)
    class_colour = {label: colours[label] for label in labels if label in colours}
    truth, edges = annotation_bars(pictured.evaluation, colours), edges_of(pictured.grid)
    tracks: list[Track] = [Bars("annotations", truth)]
    for number, (stage, values_by_name) in enumerate(stages.items()):
        for what, values in values_by_name.items():
            if values.ndim == 2:
                curves = [Curve(edges, values[:, classes.index(label)], class_colour[label]) for label in class_colour]
                tracks.append(Curves(f"{stage} {what}".strip(), curves))
        if action := {what: values for what, values in values_by_name.items() if values.ndim == 1}:
            tracks.append(Curves(stage, _action(edges, action, named=number == 0)))
    caption = (
        f"{pictured.role.capitalize()}: {pictured.video}. The targets that its snippets would get if it were a "
        "training video, and the components of these targets. The head was given the video's labels, but not the "
        "annotations, which are shown in the background."
    )
    if len(stages) > 1:
        caption += " Targets from the parameters at the end of an iteration are used in the next."
    return Picture(name, caption, timeline(pictured.grid.end, tracks, pictured.video, class_colour, truth))


def _action(edges: NDArray[np.float64], action: Mapping[str, Values], named: bool) -> list[Curve]:
    """Draw the pseudo label behind its components, the last of which is the sum of the others."""
    *factors, product, last = action if len(action) > 1 else (*action, *action)
    behind = Curve(edges, action[last], GREY, name=last if named else "", filled=True)
    lines = {**dict(zip(factors, PART_LINES, strict=False)), product: "-"}
    return [
        behind,
        *(
            Curve(edges, action[key], GREY if key in factors else INK, lines[key], key if named else "")
            for key in lines
        ),
    ]
