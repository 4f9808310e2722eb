"""Sections of a page on detections by characteristics of the annotations, such as their length and number."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wtal.eval.columns import Floats
from wtal.eval.diagnosis.characteristics import UNITS
from wtal.eval.diagnosis.diagnose import LATE, Bucket, Diagnosis
from wtal.eval.thresholds import tiou_key
from wtal.report.page import PageTable, Picture, Section
from wtal.report.style import BLUE, GREY, GRID, INK, ORANGE, RED, canvas, label, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def characteristic_sections(diagnosis: Diagnosis, k: int) -> tuple[Section, ...]:
    """Report precision and missed annotations by bucket, at the `k`-th threshold."""
    return (_sensitivity(diagnosis, k), _missed(diagnosis, k))


def _sensitivity(diagnosis: Diagnosis, k: int) -> Section:
    tiou, overall = tiou_key(diagnosis.tious[k]), 100 * diagnosis.normalized[k]
    known = [bucket for buckets in diagnosis.characteristics.values() for bucket in buckets if bucket.annotations]
    top = max(1.0, overall, *(100 * bucket.normalized[k] for bucket in known))
    figure, panels = canvas(1, len(diagnosis.characteristics), 2.7, sharex=True)
    for axes, (name, buckets) in zip(panels, diagnosis.characteristics.items(), strict=True):
        lengths = [100 * bucket.normalized[k] for bucket in buckets]
        axes.barh(range(len(buckets)), lengths, 0.72, color=BLUE)
        _dress(axes, name, buckets, lengths, overall, top)
    figure.supxlabel("normalized mAP (%)", fontsize=10, color=INK)
    caption = (
        f"Normalized mAP at tIoU {tiou} on the annotations of each bucket, with their number next to it. The dashed "
        f"line is the value for all annotations, {overall:.1f} %."
    )
    text = (
        "Precision by characteristics of the annotations. Normalized mAP makes buckets of different sizes "
        "comparable: it assumes the same number of annotations for all of them, the mean over the classes. It is not "
        "the same as mAP; compare it with the dashed line only."
    )
    table = _table(diagnosis, k, "normalized mAP (%)", lambda bucket: bucket.normalized)
    return Section("Sensitivity", text, (table,), (Picture("sensitivity", caption, figure),))


def _missed(diagnosis: Diagnosis, k: int) -> Section:
    tiou, overall = tiou_key(diagnosis.tious[k]), 100 * diagnosis.missed[k]
    figure, panels = canvas(1, len(diagnosis.characteristics), 2.9, sharex=True)
    for axes, (name, buckets) in zip(panels, diagnosis.characteristics.items(), strict=True):
        missed = [100 * bucket.missed[k] for bucket in buckets]
        late = [100 * bucket.late[k] for bucket in buckets]
        axes.barh(range(len(buckets)), missed, 0.72, color=GREY, label="missed")
        axes.barh(range(len(buckets)), late, 0.72, missed, color=ORANGE, label="late")
        _dress(axes, name, buckets, [a + b for a, b in zip(missed, late, strict=True)], overall, 100.0)
    figure.supxlabel("percent of annotations", fontsize=10, color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    text = (
        f"Annotations not found at tIoU {tiou}: missed ones match no detection; late "
        f"ones match a detection, but one ranked where the normalized precision of its class is at most {LATE:g}."
    )
    caption = (
        f"Missed and late annotations of each bucket. The dashed line is the share missed overall, {overall:.1f} %."
    )
    table = _table(diagnosis, k, "missed (%)", lambda bucket: bucket.missed)
    return Section("Missed annotations", text, (table,), (Picture("missed", caption, figure),))


def _dress(
    axes: "Axes", name: str, buckets: Sequence[Bucket], lengths: Sequence[float], overall: float, top: float
) -> None:
    """Add figures next to the bars, a dashed line for all annotations, and the content of each bucket."""
    around = {"facecolor": "white", "linewidth": 0, "pad": 1.2, "alpha": 0.85}
    for row, length in enumerate(lengths):
        if np.isfinite(length):
            write(axes, length + 0.025 * top, row, f"{length:.1f}", ha="left", bbox=around)
    axes.axvline(overall, color=RED, linewidth=1.4, linestyle="--", zorder=2.5)
    axes.set_xlim(0, 1.25 * top)
    if top > 60:
        axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_ylim(len(buckets) - 0.4, -0.6)
    axes.set_yticks(
        range(len(buckets)), [f"{bucket.name}   {bucket.range}   ({bucket.annotations})" for bucket in buckets]
    )
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    label(axes, title=f"{name} ({UNITS[name]})" if UNITS[name] else f"{name} in the video")


def _table(diagnosis: Diagnosis, k: int, column: str, value: Callable[[Bucket], Floats]) -> PageTable:
    """Create a table with one row per characteristic and bucket."""
    rows = {
        f"{name} {bucket.name}": {
            "range": f"{bucket.range} {UNITS[name]}".rstrip(),
            "annotations": f"{bucket.annotations}",
            column: f"{100 * value(bucket)[k]:.1f}" if bucket.annotations else "",
        }
        for name, buckets in diagnosis.characteristics.items()
        for bucket in buckets
    }
    return PageTable(f"By bucket, at tIoU {tiou_key(diagnosis.tious[k])}", rows)
