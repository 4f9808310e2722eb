"""Pictures of the snippets of a run's videos as embedded by its head, with any representative snippets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wtal.pipeline.judging.observed import Internals, Observed
from wtal.report.activations import class_colours
from wtal.report.embeddings import (
    BACKGROUND,
    NO_STARS,
    EmbeddedSnippets,
    Stars,
    collection_picture,
    neighbours_alike,
    videos_picture,
)
from wtal.report.page import PageTable, Picture, Section

if TYPE_CHECKING:
    from wtal.models.head import Head

_VIDEOS, _SNIPPETS = 100, 2000
"""Maximum numbers of videos and snippets drawn."""


def embedding_section(
    observed: Observed, shown: Mapping[str, str], seed: int, videos: int = _VIDEOS, snippets: int = _SNIPPETS
) -> Section:
    """Draw t-SNE of the snippets of all videos, and if the head has representative ones, of the shown videos alone.

    If there are more than `videos` videos, that many are drawn at random, with the same number of snippets from each,
    at most `snippets` in all; both by `seed`.

    Raises:
        WtalError: when the features are missing, or scikit-learn is not installed.
    """
    trained = observed.trained(observed.question.stage)
    rng = np.random.default_rng(seed)
    names = _some(sorted(observed.keys), videos, rng)
    answers = {name: observed.ask(trained, name) for name in names}
    if not any(answer.embeddings for answer in answers.values()):
        return Section("Embedded snippets", "The head does not expose an embedding of snippets.")
    each = _share([len(next(iter(answer.embeddings.values()))) for answer in answers.values()], snippets)
    streams = next(iter(answers.values())).embeddings
    points = {stream: _sampled(observed, answers, stream, each, np.random.default_rng(seed)) for stream in streams}
    known = _memory(trained.head)
    colours = _colours(observed, next(iter(points.values())))
    caption = _caption(observed, names, next(iter(points.values())), len(known.label), seed)
    starred = {stream: (cloud, known) for stream, cloud in points.items()}
    pictures = [collection_picture("embeddings", caption, starred, observed.classes, colours, seed)]
    own = {video: answers.get(video) or observed.ask(trained, video) for video in shown.values()}
    if own and all(answer.means is not None for answer in own.values()):
        pictures.append(_own_means(observed, own, seed))
    return Section("Embedded snippets", _TEXT, (_table(points),), tuple(pictures))


_TEXT = (
    "Every dot is a snippet as embedded by the head before classification; t-SNE places snippets close together whose "
    "vectors have nearly the same direction. Distances between groups, and their sizes, mean little. A snippet "
    "is foreground, and has a class, if its middle lies in an annotation; the first of several counts.\n\n"
    "The table shows how well the embedding itself, not the plane, separates them: how often a snippet and its "
    "nearest one in another video, by cosine, are both foreground or both background, and how often any two are."
)


def _caption(observed: Observed, names: Sequence[str], points: EmbeddedSnippets, stars: int, seed: int) -> str:
    there = sum(observed.activations.grid(observed.keys[name]).num_snippets for name in names)
    whole = len(names) == len(observed.keys) and there == len(points.label)
    selection = "all of them" if whole else f"drawn at random from {there} snippets, equally many per video"
    stars_text = f" Stars: the {stars} representative snippets of the memory, by class." if stars else ""
    return (
        f"{len(points.label)} snippets of {len(names)} of {len(observed.keys)} videos, {selection} (seed {seed}). "
        f"Left: the ground truth's foreground and background. Right: its classes.{stars_text}"
    )


def _own_means(observed: Observed, own: Mapping[str, Internals], seed: int) -> Picture:
    """Draw each shown video with its own representative snippets."""
    panels = {}
    for video, answer in own.items():
        points = _sampled(
            observed, {video: answer}, next(iter(answer.embeddings)), _SNIPPETS, np.random.default_rng(seed)
        )
        assert answer.means is not None
        assert answer.mean_labels is not None
        background = answer.mean_labels >= len(observed.classes)
        panels[video] = points, Stars(answer.means, np.where(background, BACKGROUND, answer.mean_labels))
    caption = (
        "The snippets of single videos, coloured by the ground truth, and stars: the representative snippets by which "
        "the head summarizes each of them, coloured by their predicted class (pale: background)."
    )
    there = [observed.classes[label] for _, stars in panels.values() for label in stars.label.tolist() if label >= 0]
    labels = [label for video in own for label in observed.records[video].labels]
    colours = class_colours(observed.classes, list(dict.fromkeys([*labels, *there])))
    return videos_picture("representatives", caption, panels, observed.classes, colours, seed)


def _colours(observed: Observed, points: EmbeddedSnippets) -> dict[str, str]:
    """Assign colours to classes; if there are many, to the most frequent ones."""
    counts = np.bincount(points.label[points.label != BACKGROUND], minlength=len(observed.classes))
    order = np.argsort(-counts, kind="stable")
    return class_colours(observed.classes, [observed.classes[i] for i in order])


def _sampled(
    observed: Observed, answers: Mapping[str, Internals], stream: str, each: int, rng: np.random.Generator
) -> EmbeddedSnippets:
    """Draw at most `each` snippets of every video, in order of time."""
    vectors, labels, videos = [], [], []
    for number, (name, answer) in enumerate(answers.items()):
        x = answer.embeddings[stream]
        indices = np.sort(rng.choice(len(x), min(each, len(x)), replace=False))
        vectors.append(x[indices])
        labels.append(_labels(observed, name)[indices])
        videos.append(np.full(len(indices), number))
    return EmbeddedSnippets(np.concatenate(vectors), np.concatenate(labels), np.concatenate(videos))


def _share(lengths: Sequence[int], most: int) -> int:
    """Return the number of snippets to take from each video (all if it has fewer), for at most `most`; at least one."""
    counts, best = np.array(lengths), 1
    while best < counts.max(initial=0) and np.minimum(counts, best + 1).sum() <= most:
        best += 1
    return best


def _labels(observed: Observed, video: str) -> NDArray[np.int64]:
    """Return (T,) the class at each snippet's middle, or the background."""
    grid = observed.activations.grid(observed.keys[video])
    labels = np.full(grid.num_snippets, BACKGROUND)
    for segment in reversed(observed.records[video].annotations):
        known = segment.label in observed.classes
        labels[grid.mask([segment])] = observed.classes.index(segment.label) if known else BACKGROUND
    return labels


def _memory(head: "Head") -> Stars:
    """Return a head's memory of representative snippets of other videos."""
    remembered = head.remembered_snippets()
    if remembered is None:
        return NO_STARS
    vectors, labels = remembered
    return Stars(vectors.float().cpu().numpy(), labels.cpu().numpy())


def _table(points: Mapping[str, EmbeddedSnippets]) -> PageTable:
    rows = {}
    for stream, cloud in points.items():
        alike, chance = neighbours_alike(cloud)
        rows[stream or "all streams"] = {
            "nearest in another video": f"{100 * alike:.1f} %",
            "any in another video": f"{100 * chance:.1f} %",
            "snippets": str(len(cloud.label)),
            "foreground": str(int((cloud.label != BACKGROUND).sum())),
        }
    return PageTable("How often two snippets are both foreground or both background", rows)


def _some(names: Sequence[str], most: int, rng: np.random.Generator) -> list[str]:
    if len(names) <= most:
        return list(names)
    return [names[i] for i in np.sort(rng.choice(len(names), most, replace=False))]
