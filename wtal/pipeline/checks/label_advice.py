"""Obstacles to learning from labels, reported before hours are spent: one line each, with a remedy."""

from collections import defaultdict
from collections.abc import Iterable

from wtal.data.dataset import Dataset, VideoRecord

_SHOWN = 3


def advise(dataset: Dataset, subset: str, present: Iterable[str] | None = None) -> list[str]:
    """Return a line for each obstacle to learning from a subset, most serious first; empty if there is none.

    `present` are the ids of the videos at hand; None means all. Weak supervision distinguishes a class by the videos
    that lack it: if no such video exists, or two classes share all their videos, nothing can be learned.

    Raises:
        UsageError: when the subset does not exist.
    """
    videos = dataset.select(subset)
    if present is not None:
        at_hand = dataset.match(present, [video.id for video in videos])
        lines = _missing(videos, at_hand)
        videos = [video for video in videos if video.id in at_hand]
    else:
        lines = []
    ids_by_label = {label: frozenset(v.id for v in videos if v.shows(label)) for label in dataset.classes}
    ids_by_label = {label: ids for label, ids in ids_by_label.items() if ids}
    if not ids_by_label:
        return [*lines, f"no video of {subset!r} at hand has a label; label some videos"]
    return [*lines, *_everywhere(ids_by_label, videos), *_single(ids_by_label), *_together(ids_by_label)]


def _missing(videos: list[VideoRecord], at_hand: Iterable[str]) -> list[str]:
    """List classes shown only by absent files."""
    there = set(at_hand)
    labels = {label for video in videos for label in video.labels}
    lost = sorted(labels - {label for video in videos if video.id in there for label in video.labels})
    if not lost:
        return []
    return [f"no video at hand shows {_named(lost)}; add its videos, or check the names of the files"]


def _everywhere(shown: dict[str, frozenset[str]], videos: list[VideoRecord]) -> list[str]:
    """List classes that no training video is known to lack."""
    lines = []
    for label in shown:
        if any(video.shows(label) is False for video in videos):
            continue
        if len(shown) == 1:
            lines.append(
                f"{label!r} is the only class and no video is known to lack it, so nothing distinguishes its moments "
                "from the rest; add videos that do not show it (a row with an empty label, or a sub-folder called "
                "none)"
            )
        else:
            lines.append(
                f"all training videos show {label!r}, so nothing distinguishes its moments from the rest; "
                "add videos without it"
            )
    return lines


def _single(shown: dict[str, frozenset[str]]) -> list[str]:
    lines = []
    for label, ids in shown.items():
        if len(ids) == 1:
            lines.append(f"{label!r} has one training video ({min(ids)}); fewer than about ten are guesswork")
    return lines


def _together(shown: dict[str, frozenset[str]]) -> list[str]:
    """List classes with the same videos: labels cannot tell their moments apart."""
    groups = defaultdict(list)
    for label, ids in shown.items():
        groups[ids].append(label)
    return [
        f"{_named(labels)} always occur together, so labels cannot tell their moments apart; add videos that show one "
        "without the other, or merge them into one class"
        for labels in groups.values()
        if len(labels) > 1
    ]


def _named(labels: list[str]) -> str:
    names = ", ".join(repr(label) for label in labels[:_SHOWN])
    return names if len(labels) <= _SHOWN else f"{names} and {len(labels) - _SHOWN} more classes"
