"""Tracks along one axis of seconds: bars for segments, curves for values per snippet, text for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Segment
from wtal.report.style import FAINT, GRID, INK, canvas, pale, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _TRACK, _MARGIN = 0.24, 0.72, 1.15
"""Inches of a row of bars, of a track of curves, and of margins above and below."""
_LINE = 90
"""Letters per line of the legend."""
_WRITTEN = 0.045
"""Share of the whole time from which a bar is long enough for a number."""


@dataclass(frozen=True)
class Bar:
    """A segment; a `hollow` one is only an outline. `text` is written into it if there is space."""

    segment: Segment
    colour: str
    text: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars in rows; overlapping ones are below one another, the first on top."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Curve:
    """Values (T,) of the snippets between the seconds `edges` (T + 1,); `filled` down to zero instead of a line."""

    edges: NDArray[np.float64]
    values: NDArray[Any]
    colour: str
    line: str = "-"
    name: str = ""
    filled: bool = False


@dataclass(frozen=True)
class Curves:
    """Curves on one scale: from 0 to 1 with `unit`, otherwise automatic."""

    name: str
    curves: Sequence[Curve]
    unit: bool = True


@dataclass(frozen=True)
class Words:
    """A line of text."""

    name: str
    text: str


Track = Bars | Curves | Words


def timeline(
    duration: float, tracks: Sequence[Track], title: str, colours: Mapping[str, str], shade: Sequence[Bar] = ()
) -> "Figure":
    """Draw tracks below one another, from second 0 to `duration`; `shade` is drawn behind all curves.

    `colours` map name -> colour, for the legend.
    """
    lanes = {
        i: lanes_of([bar.segment for bar in track.bars]) for i, track in enumerate(tracks) if isinstance(track, Bars)
    }
    heights = [
        _TRACK if isinstance(track, Curves) else _ROW * max([1, *lanes.get(i, [])]) for i, track in enumerate(tracks)
    ]
    figure, panels = canvas(
        len(tracks), height=sum(heights) + _MARGIN, sharex=True, gridspec_kw={"height_ratios": heights, "hspace": 0.05}
    )
    for i, (axes, track) in enumerate(zip(panels, tracks, strict=True)):
        axes.set_ylabel(track.name, rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=8)
        if isinstance(track, Curves):
            _draw_curves(axes, track, shade)
        elif isinstance(track, Bars):
            _draw_bars(axes, track, lanes[i], duration)
        else:
            axes.text(0, 0.5, track.text, transform=axes.transAxes, va="center", fontsize=8.5, color=INK)
            _plain(axes)
    panels[0].set_xlim(0, duration)
    panels[-1].tick_params(axis="x", length=3, color=FAINT)
    panels[-1].set_xlabel("seconds", fontsize=9, color=INK)
    figure.align_ylabels(panels)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    _legend(figure, colours)
    return figure


def lanes_of(segments: Sequence[Segment]) -> list[int]:
    """Return the first free row, counted from 1, for each segment in turn."""
    taken: list[list[Segment]] = []
    rows = []
    for segment in segments:
        free = (i for i, row in enumerate(taken) if all(segment.end <= o.start or o.end <= segment.start for o in row))
        row = next(free, len(taken))
        taken += [[]] if row == len(taken) else []
        taken[row].append(segment)
        rows.append(row + 1)
    return rows


def _draw_bars(axes: "Axes", track: Bars, lanes: Sequence[int], duration: float) -> None:
    for bar, lane in zip(track.bars, lanes, strict=True):
        start, length = bar.segment.start, bar.segment.duration
        face = pale(bar.colour, 0.12) if bar.hollow else bar.colour
        axes.barh(-lane, length, 0.8, left=start, color=face, edgecolor=bar.colour, linewidth=1.1)
        if bar.text and length >= _WRITTEN * duration:
            colour = INK if bar.hollow else "white"
            write(axes, start + length / 2, -lane - 0.03, bar.text, color=colour, fontsize=7.5, clip_on=True)
    axes.set_ylim(-max([1, *lanes]) - 0.55, -0.45)
    _plain(axes)


def _plain(axes: "Axes") -> None:
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_curves(axes: "Axes", track: Curves, shade: Sequence[Bar]) -> None:
    for bar in shade:
        axes.axvspan(bar.segment.start, bar.segment.end, color=pale(bar.colour, 0.2), linewidth=0, zorder=0)
    for curve in track.curves:
        options: dict[str, Any] = {"linewidth": 1.4, "linestyle": curve.line}
        if curve.filled:
            options = {"fill": True, "alpha": 0.45}
        axes.stairs(
            curve.values,
            curve.edges,
            baseline=0 if curve.filled else None,
            color=curve.colour,
            label=curve.name or None,
            **options,
        )
    if track.unit:
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    if any(curve.name for curve in track.curves):
        axes.legend(
            loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8, labelcolor=INK, handlelength=1.6
        )


def _legend(figure: "Figure", colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    columns = max(1, min(len(handles), _LINE // (4 + max([1, *map(len, colours)]))))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5, labelcolor=INK
    )
