"""Style of all pictures: one size, one typeface, colours distinguishable with any colour vision.

Figures are created as objects, without pyplot: nothing is kept open and no setting of the process changes. The colours
are those of M. Okabe, K. Ito, Color Universal Design (2008). matplotlib is imported when the first figure is created.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wtal.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#222222", "#6b6b6b", "#e3e3e3"
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
GREY, PALE = "#8c8c8c", "#dedede"

WIDTH = 9.0
"""Width in inches; a page shows figures at its full width."""
DPI = 140

_TEXT, _SMALL = 10.0, 8.5


def drawable() -> None:
    """Raise early if pictures cannot be drawn.

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    require("matplotlib", "report")


def canvas(rows: int = 1, columns: int = 1, height: float = 3.4, **options: Any) -> tuple["Figure", list["Axes"]]:
    """Create an empty figure as wide as a page and `height` inches high, and its axes row by row.

    `options` go to matplotlib's `Figure.subplots`.

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    drawable()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure((WIDTH, height), layout=layout, facecolor="white")
    axes = [*figure.subplots(rows, columns, squeeze=False, **options).flat]
    for panel in axes:
        _plain(panel)
    return figure, axes


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=_SMALL, length=0, pad=4)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def label(axes: "Axes", x: str = "", y: str = "", title: str = "") -> None:
    """Write labels along the axes, and a title above them."""
    axes.set_xlabel(x, fontsize=_TEXT, color=INK)
    axes.set_ylabel(y, fontsize=_TEXT, color=INK)
    if title:
        axes.set_title(title, fontsize=_TEXT, color=INK, loc="left", fontweight="bold")


def write(axes: "Axes", x: float, y: float, text: str, **options: Any) -> None:
    """Write a small text in the picture, centred at a position in data units."""
    usual: dict[str, Any] = {"fontsize": _SMALL, "color": INK, "ha": "center", "va": "center"}
    axes.text(x, y, text, **usual | options)


def legend(axes: "Axes", **options: Any) -> None:
    """Add a legend next to the axes; `options` may move it."""
    where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
    axes.legend(**{"frameon": False, "fontsize": _SMALL, "labelcolor": INK} | (options or where))


def stack(axes: "Axes", layers: Mapping[str, Sequence[float]], colours: Mapping[str, str], least: float = 4.0) -> None:
    """Draw stacked bars in percent: name -> a height for each bar; those of at least `least` are labelled inside.

    The legend lists them in visual order, the uppermost first.
    """
    count = len(next(iter(layers.values())))
    width, floor = min(0.82, 0.18 * count + 0.1), [0.0] * count
    for name, heights in layers.items():
        axes.bar(range(count), heights, width, floor, color=colours[name], label=name, edgecolor="white", linewidth=0.6)
        for i, height in enumerate(heights):
            if height >= least and count <= 12:
                write(axes, i, floor[i] + height / 2, f"{height:.1f}", color=_on(colours[name]))
        floor = [low + height for low, height in zip(floor, heights, strict=True)]
    axes.set_xlim(-0.6, count - 0.4)
    handles, names = axes.get_legend_handles_labels()
    legend(axes, handles=handles[::-1], labels=names[::-1], loc="upper left", bbox_to_anchor=(1.01, 1.0))


def pale(colour: str, strength: float = 0.4) -> str:
    """Return a colour as it appears on white at a given coverage."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02x}" for part in parts)


def few_ticks(axes: "Axes", labels: Sequence[str], most: int = 15) -> None:
    """Label the bars at 0, 1, ...; only some if there are very many."""
    step = -(-len(labels) // most)
    axes.set_xticks([*range(0, len(labels), step)], labels[::step])


def _on(colour: str) -> str:
    """Return black or white, whichever is more legible on a colour, by its luminance."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "white" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.22 else INK
