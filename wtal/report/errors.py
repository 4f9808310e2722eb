"""Sections of a page on the errors of a detection file and their cost, with explanations."""

import numpy as np

from wtal.eval.diagnosis.diagnose import SLICES, Diagnosis
from wtal.eval.diagnosis.outcomes import ERRORS, NEAR, OUTCOMES
from wtal.eval.thresholds import tiou_key
from wtal.report.page import PageTable, Picture, Section
from wtal.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PINK,
    SKY,
    canvas,
    few_ticks,
    label,
    pale,
    stack,
    write,
)

_COLOURS = {
    "mAP": GREEN,
    "true positive": GREEN,
    "duplicate": ORANGE,
    "wrong label": PINK,
    "localization": BLUE,
    "confusion": SKY,
    "background": GREY,
    "missed": PALE,
    "not counted": PALE,
}


def error_sections(diagnosis: Diagnosis, k: int) -> tuple[Section, ...]:
    """Break down the points at all thresholds, and the errors at the `k`-th of them."""
    return (_points(diagnosis), _false_positives(diagnosis, k))


def _points(diagnosis: Diagnosis) -> Section:
    cost = diagnosis.removal
    layers = {"mAP": 100 * cost.mean_ap, **dict(zip(ERRORS, 100 * cost.shared.T, strict=True))}
    layers["missed"] = 100 * (1 - cost.recall)
    keys = [tiou_key(tiou) for tiou in diagnosis.tious]
    figure, (axes,) = canvas(height=4.2)
    stack(axes, {name: values.tolist() for name, values in layers.items()}, _COLOURS)
    few_ticks(axes, keys)
    axes.set_ylim(0, 100)
    label(axes, "threshold of tIoU", "percent of mAP")
    caption = (
        "Each bar is 100 %: from bottom to top, the mAP achieved, the cost of each kind of false positive, and "
        "the missing recall."
    )
    rows = {name: dict(zip(keys, map(_decimal, values), strict=True)) for name, values in layers.items()}
    text = (
        "Without false positives, average precision would equal the recall. The difference is distributed "
        "among the kinds: the cost of a kind is the gain from removing it, averaged over all orders of removal. "
        "The rows of a column therefore sum to 100."
    )
    table = PageTable("Percent of mAP, by threshold", rows)
    return Section("Breakdown of mAP", text, (table,), (Picture("points", caption, figure),))


def _false_positives(diagnosis: Diagnosis, k: int) -> Section:
    tiou = f"tIoU {tiou_key(diagnosis.tious[k])}"
    text = (
        f"At {tiou}. A false positive is classified by the annotation of its video that it overlaps most. It is a "
        "duplicate (same class, reaches the threshold, but another detection matched the annotation), a wrong label "
        f"(another class, reaches the threshold), a localization error (same class, tIoU from {NEAR} on), a confusion "
        f"(another class, tIoU from {NEAR} on), or background (below {NEAR}). G is the number of annotations of a "
        "class; the first bar shows its G detections with the highest scores, the second bar the next G."
    )
    tops: dict[str, int | None] = {"1G": 1, "3G": 3, f"{SLICES}G": SLICES, "all": None}
    counts = {name: diagnosis.among_best(times)[k] for name, times in tops.items()}
    listed = [i for i, _ in enumerate(OUTCOMES) if counts["all"][i] or i < len(OUTCOMES) - 1]
    rows = {OUTCOMES[i]: {name: f"{row[i]}" for name, row in counts.items()} for i in listed}
    rows["detections"] = {name: f"{row.sum()}" for name, row in counts.items()}
    table = PageTable(f"Detections at {tiou}, among those with the highest scores in each class", rows)
    return Section("False positives", text, (table,), (_ranks(diagnosis, k), _gains(diagnosis, k)))


def _ranks(diagnosis: Diagnosis, k: int) -> Picture:
    counts = diagnosis.counts[k]
    names = [*(f"{i}G" for i in range(1, SLICES + 1)), "rest"]
    last = max((i for i, row in enumerate(counts) if row.sum()), default=0)
    shares = 100 * counts[: last + 1] / np.maximum(counts[: last + 1].sum(axis=1, keepdims=True), 1)
    figure, (axes,) = canvas(height=3.8)
    layers = {name: shares[:, i].tolist() for i, name in enumerate(OUTCOMES) if counts[:, i].any()}
    stack(axes, layers or {OUTCOMES[0]: [0.0]}, _COLOURS, least=6.0)
    few_ticks(axes, names[: last + 1])
    axes.set_ylim(0, 100)
    label(axes, "rank by score within a class, in slices of G", "percent of the slice's detections")
    caption = f"Outcomes of the detections in each slice of ranks, at tIoU {tiou_key(diagnosis.tious[k])}."
    return Picture("errors-by-rank", caption, figure)


def _gains(diagnosis: Diagnosis, k: int) -> Picture:
    alone, shared = 100 * diagnosis.removal.alone[k], 100 * diagnosis.removal.shared[k]
    figure, (axes,) = canvas(height=3.0)
    positions = np.arange(len(ERRORS))
    colours = [_COLOURS[name] for name in ERRORS]
    axes.bar(positions - 0.2, alone, 0.36, color=colours)
    axes.bar(positions + 0.2, shared, 0.36, color=[pale(colour) for colour in colours])
    top = max(1.0, *alone, *shared)
    for side, values in ((-0.2, alone), (0.2, shared)):
        for position, value in enumerate(values):
            write(axes, position + side, value + 0.02 * top, f"{value:.1f}", va="bottom")
    axes.set_ylim(0, 1.15 * top)
    axes.set_xticks(positions, ERRORS)
    label(axes, "", "points of mAP gained")
    caption = (
        f"Potential gain in mAP at tIoU {tiou_key(diagnosis.tious[k])}: full colour, with only these false "
        "positives removed; pale, their share when all kinds are removed. The pale bars sum to recall minus mAP."
    )
    return Picture("gains", caption, figure)


def _decimal(value: float) -> str:
    return f"{value:.1f}"
