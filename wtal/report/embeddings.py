"""Snippets in a head's embedding, laid out on a plane by t-SNE (van der Maaten and Hinton, JMLR 2008).

Vectors are compared by direction, as in cosine classifiers, and first reduced to 50 principal components. Items to be
viewed together (snippets, and the representative ones) are laid out together, since t-SNE cannot place new points.
Equal vectors and seeds yield equal pictures on the same machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.errors import require
from wtal.report.page import Picture
from wtal.report.style import GREY, GRID, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BACKGROUND = -1
"""Label of a snippet without an annotated class."""

_PERPLEXITY, _COMPONENTS = 30.0, 50
_BEHIND = "#c4c4c4"
_COLUMNS = 3


@dataclass(frozen=True)
class EmbeddedSnippets:
    """N embedded snippets: `vectors` (N, E), the class shown by each, `label` (N,), and its video, both by index."""

    vectors: NDArray[np.float32]
    label: Ints
    video: Ints


@dataclass(frozen=True)
class Stars:
    """K representative snippets: `vectors` (K, E), and the class of each, `label` (K,), or `BACKGROUND`."""

    vectors: NDArray[np.float32]
    label: Ints


NO_STARS = Stars(np.zeros((0, 0), np.float32), np.zeros(0, np.int64))


def tsne(vectors: NDArray[np.float32], seed: int) -> Floats:
    """Map (N, E) -> (N, 2). Fewer than four have no neighbourhood, and are placed on a line.

    Raises:
        MissingExtraError: when scikit-learn is not installed.
    """
    require("sklearn", "report")
    from sklearn.manifold import TSNE

    if len(vectors) < 4:
        return np.stack([np.arange(len(vectors)), np.zeros(len(vectors))], axis=1).astype(np.float64)
    reduced = _reduced(_unit(vectors))
    perplexity = min(_PERPLEXITY, len(vectors) ** 0.5)
    positions: Floats = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return positions


def neighbours_alike(points: EmbeddedSnippets) -> tuple[float, float]:
    """Return the share of snippets that agree on foreground with their nearest in another video, and that of any pairs.

    The nearest are those by cosine in the embedding, not on the plane. (nan, nan) with fewer than two videos.
    """
    foreground, unit = points.label != BACKGROUND, _unit(points.vectors)
    other = points.video[:, None] != points.video[None, :]
    if not len(other) or not other.any(axis=1).all():
        return float("nan"), float("nan")
    alike = foreground[:, None] == foreground[None, :]
    nearest = np.where(other, unit @ unit.T, -np.inf).argmax(axis=1)
    chance = (alike & other).sum(axis=1) / other.sum(axis=1)
    return float(alike[np.arange(len(nearest)), nearest].mean()), float(chance.mean())


def collection_picture(
    name: str,
    caption: str,
    streams: Mapping[str, tuple[EmbeddedSnippets, Stars]],
    classes: Sequence[str],
    colours: Mapping[str, str],
    seed: int,
) -> Picture:
    """Draw stream -> snippets and stars, one row each: foreground and background on the left, classes on the right."""
    rows = max(1, len(streams))
    figure, panels = canvas(rows, 2, 0.5 + 3.7 * rows)
    for row, (stream, (points, stars)) in enumerate(streams.items()):
        places, starred = _together(points, stars, seed)
        kind, shown = panels[2 * row], panels[2 * row + 1]
        foreground = points.label != BACKGROUND
        for mask, colour, what in ((~foreground, _BEHIND, "background"), (foreground, INK, "foreground")):
            _dots(kind, places[mask], colour, what)
        _classes(shown, places, points.label, classes, colours)
        _stars(shown, starred, stars, classes, colours)
        for axes, title in ((kind, "foreground and background"), (shown, "classes")):
            _bare(axes, f"{stream}: {title}" if stream else title)
            handles, labels = axes.get_legend_handles_labels()
            _legend(axes, dict(zip(labels, handles, strict=True)), 3, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    return Picture(name, caption, figure)


def videos_picture(
    name: str,
    caption: str,
    videos: Mapping[str, tuple[EmbeddedSnippets, Stars]],
    classes: Sequence[str],
    colours: Mapping[str, str],
    seed: int,
) -> Picture:
    """Draw video -> its snippets and its own representative ones, one panel each, for at least one video."""
    rows = -(-len(videos) // _COLUMNS)
    figure, panels = canvas(rows, min(_COLUMNS, len(videos)), 0.4 + 3.2 * rows)
    for axes in panels[len(videos) :]:
        axes.set_visible(False)
    for axes, (video, (points, stars)) in zip(panels, videos.items(), strict=False):
        places, starred = _together(points, stars, seed)
        _classes(axes, places, points.label, classes, colours)
        _stars(axes, starred, stars, classes, colours)
        _bare(axes, video)
    shown: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    _legend(figure, shown, 6, loc="outside lower center")
    return Picture(name, caption, figure)


def _together(points: EmbeddedSnippets, stars: Stars, seed: int) -> tuple[Floats, Floats]:
    """Lay out the snippets (N, 2) and the stars (K, 2)."""
    parts = [points.vectors, stars.vectors] if len(stars.label) else [points.vectors]
    places = tsne(np.concatenate(parts), seed)
    return places[: len(points.label)], places[len(points.label) :]


def _classes(axes: "Axes", places: Floats, label: Ints, classes: Sequence[str], colours: Mapping[str, str]) -> None:
    """Draw dots, first of the background, then of the coloured classes in their order."""
    own = [name for name in classes if name in colours]
    rest = ~np.isin(label, [classes.index(name) for name in own]) & (label != BACKGROUND)
    layers = [("background", _BEHIND, label == BACKGROUND), ("other classes", GREY, rest)]
    layers += [(name, colours[name], label == classes.index(name)) for name in own]
    for name, colour, mask in layers:
        if mask.any():
            _dots(axes, places[mask], colour, name)


def _dots(axes: "Axes", places: Floats, colour: str, name: str) -> None:
    axes.scatter(places[:, 0], places[:, 1], s=10, color=colour, alpha=0.8, linewidth=0, label=name)


def _stars(axes: "Axes", places: Floats, stars: Stars, classes: Sequence[str], colours: Mapping[str, str]) -> None:
    if not len(stars.label):
        return
    face = [_BEHIND if label == BACKGROUND else colours.get(classes[label], GREY) for label in stars.label.tolist()]
    style: dict[str, Any] = {"marker": "*", "edgecolor": INK, "linewidth": 0.9, "zorder": 3}
    axes.scatter(places[:, 0], places[:, 1], s=130, c=face, **style)
    axes.scatter([], [], s=80, c="white", label="representative", **style)


def _bare(axes: "Axes", title: str) -> None:
    """Draw a frame without ticks: the axes of t-SNE have no meaning."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=GRID)
    axes.set_title(title, fontsize=9, color=INK, loc="left", fontweight="bold")


def _legend(where: Any, shown: Mapping[str, Any], most: int, **position: Any) -> None:
    columns = min(most, max(1, len(shown)))
    style: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": INK, "markerscale": 1.3}
    where.legend([*shown.values()], [*shown], ncols=columns, **style, **position)


def _unit(vectors: NDArray[np.float32]) -> Floats:
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: Floats = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    return unit


def _reduced(vectors: Floats) -> Floats:
    """Map (N, E) -> (N, at most 50) principal components, each oriented so that its largest weight is positive."""
    centred: Floats = vectors - vectors.mean(axis=0)
    if centred.shape[1] <= _COMPONENTS:
        return centred
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:_COMPONENTS]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return np.asarray(centred @ (axes * signs[:, None]).T)
