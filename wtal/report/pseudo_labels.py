"""What a method teaches snippets in a video, beside what that is made of and the ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.eval.per_video import Verdict
from wtal.report.activations import PART_LINES, annotation_bars, edges_of
from wtal.report.page import Picture
from wtal.report.style import GREY, INK
from wtal.report.timeline import Bars, Curve, Curves, Track, timeline

Array = NDArray[np.float32]


def pseudo_label_picture(
    name: str,
    caption: str,
    video: str,
    verdict: Verdict,
    grid: SnippetGrid,
    stages: Mapping[str, Mapping[str, Array]],
    classes: Sequence[str],
    colours: Mapping[str, str],
) -> Picture:
    """Stage -> name -> values: class probabilities (T, C) or more, a track each; action (T,), a track for all of them.

    Of classes those that the video shows are drawn; of action the last is the pseudo label, and lies behind.
    """
    truth, edges = annotation_bars(verdict, colours), edges_of(grid)
    shown = {name: colours[name] for name in dict.fromkeys(one.label for one in verdict.annotations) if name in colours}
    tracks: list[Track] = [Bars("annotations", truth)]
    for number, (stage, made) in enumerate(stages.items()):
        tracks += [
            Curves(
                f"{stage} {what}".strip(), [Curve(edges, values[:, classes.index(one)], shown[one]) for one in shown]
            )
            for what, values in made.items()
            if values.ndim == 2
        ]
        if action := {what: values for what, values in made.items() if values.ndim == 1}:
            tracks.append(Curves(stage, _action(edges, action, named=number == 0)))
    return Picture(name, caption, timeline(grid.duration, tracks, video, shown, truth))


def _action(edges: NDArray[np.float64], made: Mapping[str, Array], named: bool) -> list[Curve]:
    """The pseudo label behind what it is made of, of which the last is the whole of the others."""
    *parts, whole, last = made if len(made) > 1 else (*made, *made)
    behind = Curve(edges, made[last], GREY, name=last if named else "", filled=True)
    lines = {**dict(zip(parts, PART_LINES, strict=False)), whole: "-"}
    return [
        behind,
        *(Curve(edges, made[one], GREY if one in parts else INK, lines[one], one if named else "") for one in lines),
    ]
