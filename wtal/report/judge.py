"""Pictures of the evaluation: mAP against tIoU, precision against recall, recall against proposals."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from wtal.eval.curves import PrecisionRecallCurve
from wtal.eval.proposals import ProposalEvaluation
from wtal.eval.thresholds import tiou_key
from wtal.report.page import Picture
from wtal.report.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, canvas, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS, _COLUMNS = 20, 5
_LINES = ((GREEN, 3.6), (BLUE, 2.2), (RED, 1.0))
"""Colours and widths for at most three thresholds, the lowest first: equal curves remain visible below others."""
_SHOWN = (0.3, 0.5, 0.7, 0.75, 0.95)


def few_tious(tious: Sequence[float]) -> tuple[float, ...]:
    """Select at most three thresholds for curves: the first three of 0.3, 0.5, 0.7, 0.75, 0.95 that are present.

    If none of these is present, they are the first, the middle and the last threshold.
    """
    usual = [tiou for tiou in tious if any(abs(tiou - usual_tiou) < 1e-9 for usual_tiou in _SHOWN)]
    if usual or len(tious) <= len(_LINES):
        return tuple(usual or tious)[: len(_LINES)]
    return (tious[0], tious[len(tious) // 2], tious[-1])


def precision_by_tiou(by_name: Mapping[str, Mapping[float, float]]) -> Picture:
    """Draw mAP by threshold for each file or seed by name, all at the same thresholds."""
    figure, (axes,) = canvas(height=3.2)
    tious = [*next(iter(by_name.values()))]
    mean = {tiou: fmean(precision[tiou] for precision in by_name.values()) for tiou in tious}
    if len(by_name) > 1:
        for by_tiou in by_name.values():
            axes.plot(tious, _percent(by_tiou.values()), color=FAINT, linewidth=0.8, alpha=0.7)
    axes.plot(tious, _percent(mean.values()), color=BLUE, linewidth=2, marker="o", markersize=5)
    for tiou in tious if len(tious) <= 15 else ():
        axes.annotate(
            f"{100 * mean[tiou]:.1f}",
            (tiou, 100 * mean[tiou]),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=INK,
        )
    axes.set_ylim(0, max(5.0, 118 * max(value for precision in by_name.values() for value in precision.values())))
    label(axes, "threshold of tIoU", "mAP (%)")
    seeds = f"; the thin lines are {len(by_name)} seeds, the thick one is their mean" if len(by_name) > 1 else ""
    return Picture("map-by-tiou", f"Mean average precision at each threshold of tIoU{seeds}.", figure)


def precision_recall_curves(curves: Mapping[str, Sequence[PrecisionRecallCurve]], tious: Sequence[float]) -> Picture:
    """Draw each class's curve at three thresholds at most: all classes, or, if there are many, the best and worst."""
    ranked = sorted(curves, key=lambda name: -fmean(curve.ap for curve in curves[name]))
    chosen = ranked if len(ranked) <= _PANELS else [*ranked[: _PANELS // 2], *ranked[-_PANELS // 2 :]]
    rows = -(-len(chosen) // _COLUMNS)
    figure, panels = canvas(rows, min(_COLUMNS, len(chosen)), 0.6 + 1.75 * rows, sharex=True, sharey=True)
    for panel, name in zip(panels, chosen, strict=False):
        _panel(panel, name, curves[name], tious)
    for panel in panels[len(chosen) :]:
        panel.set_visible(False)
    figure.supxlabel("recall (%)", fontsize=10, color=INK)
    figure.supylabel("precision (%)", fontsize=10, color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    which = (
        "all classes" if len(chosen) == len(ranked) else f"the {_PANELS // 2} best and the {_PANELS // 2} worst classes"
    )
    caption = (
        f"Precision against recall of {which}, best average precision first (grey number: its mean over the "
        "thresholds drawn). A curve ends at the recall of the class; the area under it is the average precision."
    )
    return Picture("precision-recall", caption, figure)


def _panel(axes: "Axes", name: str, curves: Sequence[PrecisionRecallCurve], tious: Sequence[float]) -> None:
    for tiou, curve, (colour, width) in zip(tious, curves, _LINES, strict=False):
        recall, precision = np.r_[0, curve.recall], np.r_[curve.precision[:1], curve.precision]
        if not len(curve.recall):
            recall = precision = np.zeros(1)
        axes.step(
            100 * recall, 100 * precision, where="pre", color=colour, linewidth=width, label=f"tIoU {tiou_key(tiou)}"
        )
        axes.plot(100 * recall[-1:], 100 * precision[-1:], color=colour, marker="o", markersize=3, linewidth=0)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 107)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    axes.set_title(_short(name), fontsize=8.5, color=INK, loc="left", pad=3, parse_math=False)
    mean = 100 * fmean(curve.ap for curve in curves)
    axes.set_title(f"{mean:.1f}", fontsize=8.5, color=FAINT, loc="right", pad=3)


def recall_by_proposals(evaluation: ProposalEvaluation) -> Picture:
    """Draw average recall against the average number of proposals per video."""
    figure, (axes,) = canvas(height=3.4)
    axes.plot(evaluation.numbers, 100 * evaluation.average_recall, color=INK, linewidth=2.2, label="average recall")
    drawn = few_tious([tiou for tiou in evaluation.tious if tiou in (0.5, 0.75, 0.95)] or evaluation.tious)
    for tiou, colour in zip(drawn, (GREEN, BLUE, ORANGE), strict=False):
        row = evaluation.recall[evaluation.tious.index(tiou)]
        axes.plot(evaluation.numbers, 100 * row, color=colour, linewidth=1.3, label=f"tIoU {tiou_key(tiou)}")
    axes.set_xlim(0, evaluation.numbers[-1])
    axes.set_ylim(0, 103)
    label(axes, "average number of proposals per video", "recall (%)")
    legend(axes)
    span = f"{tiou_key(evaluation.tious[0])} to {tiou_key(evaluation.tious[-1])}"
    caption = (
        "Recall of annotations by detections as class-agnostic proposals. The black line is the mean over "
        f"{len(evaluation.tious)} thresholds from {span}; the area under it is {100 * evaluation.area:.1f} %."
    )
    return Picture("average-recall", caption, figure)


def _percent(values: Iterable[float]) -> list[float]:
    return [100 * value for value in values]


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
