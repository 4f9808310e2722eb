"""Sections of a page on how a detection file fares with long and short annotations, few and many of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wtal.eval.characteristics import UNITS
from wtal.eval.columns import Floats
from wtal.eval.diagnosis import LATE, Bucket, Diagnosis
from wtal.eval.thresholds import tiou_key
from wtal.report.page import Picture, Section, Table
from wtal.report.style import BLUE, GREY, GRID, INK, ORANGE, RED, canvas, label, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def characteristic_sections(found: Diagnosis, k: int) -> tuple[Section, ...]:
    """Precision and missed annotations by bucket, at the `k`-th threshold."""
    return (_sensitivity(found, k), _missed(found, k))


def _sensitivity(found: Diagnosis, k: int) -> Section:
    here, whole = tiou_key(found.tious[k]), 100 * found.normalized[k]
    known = [one for buckets in found.characteristics.values() for one in buckets if one.annotations]
    top = max(1.0, whole, *(100 * one.normalized[k] for one in known))
    figure, panels = canvas(1, len(found.characteristics), 2.7, sharex=True)
    for axes, (name, buckets) in zip(panels, found.characteristics.items(), strict=True):
        lengths = [100 * one.normalized[k] for one in buckets]
        axes.barh(range(len(buckets)), lengths, 0.72, color=BLUE)
        _dress(axes, name, buckets, lengths, whole, top)
    figure.supxlabel("normalized mAP (%)", fontsize=10, color=INK)
    caption = (
        f"Normalized mAP at tIoU {here} on the annotations of each bucket, whose number stands beside it. The dashed "
        f"line is that of all, {whole:.1f} %."
    )
    text = (
        "How precision depends on what an annotation is like. Normalized mAP makes buckets of different sizes "
        "comparable: it takes one number of annotations, the mean over the classes, for all of them. It is another "
        "figure than mAP, to be read against the dashed line only."
    )
    table = _table(found, k, "normalized mAP (%)", lambda one: one.normalized)
    return Section("Sensitivity", text, (table,), (Picture("sensitivity", caption, figure),))


def _missed(found: Diagnosis, k: int) -> Section:
    here, whole = tiou_key(found.tious[k]), 100 * found.missed[k]
    figure, panels = canvas(1, len(found.characteristics), 2.9, sharex=True)
    for axes, (name, buckets) in zip(panels, found.characteristics.items(), strict=True):
        missed = [100 * one.missed[k] for one in buckets]
        late = [100 * one.late[k] for one in buckets]
        axes.barh(range(len(buckets)), missed, 0.72, color=GREY, label="missed")
        axes.barh(range(len(buckets)), late, 0.72, missed, color=ORANGE, label="late")
        _dress(axes, name, buckets, [a + b for a, b in zip(missed, late, strict=True)], whole, 100.0)
    figure.supxlabel("percent of annotations", fontsize=10, color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    text = (
        f"Annotations that the detections do not show at tIoU {here}: missed are those that no detection took; late "
        f"are those whose detection comes only where the normalized precision of its class is at most {LATE:g}."
    )
    caption = f"Missed and late annotations of each bucket. The dashed line is what is missed of all, {whole:.1f} %."
    table = _table(found, k, "missed (%)", lambda one: one.missed)
    return Section("Missed annotations", text, (table,), (Picture("missed", caption, figure),))


def _dress(
    axes: "Axes", name: str, buckets: Sequence[Bucket], lengths: Sequence[float], whole: float, top: float
) -> None:
    """Figures beside the bars, a dashed line for all annotations, and what each bucket holds."""
    around = {"facecolor": "white", "linewidth": 0, "pad": 1.2, "alpha": 0.85}
    for place, length in enumerate(lengths):
        if np.isfinite(length):
            write(axes, length + 0.025 * top, place, f"{length:.1f}", ha="left", bbox=around)
    axes.axvline(whole, color=RED, linewidth=1.4, linestyle="--", zorder=2.5)
    axes.set_xlim(0, 1.25 * top)
    if top > 60:
        axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_ylim(len(buckets) - 0.4, -0.6)
    axes.set_yticks(range(len(buckets)), [f"{one.name}   {one.range}   ({one.annotations})" for one in buckets])
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    label(axes, title=f"{name} ({UNITS[name]})" if UNITS[name] else f"{name} in the video")


def _table(found: Diagnosis, k: int, what: str, value: Callable[[Bucket], Floats]) -> Table:
    """A row a characteristic and bucket."""
    rows = {
        f"{name} {one.name}": {
            "range": f"{one.range} {UNITS[name]}".rstrip(),
            "annotations": f"{one.annotations}",
            what: f"{100 * value(one)[k]:.1f}" if one.annotations else "",
        }
        for name, buckets in found.characteristics.items()
        for one in buckets
    }
    return Table(f"By bucket, at tIoU {tiou_key(found.tious[k])}", rows)
