"""Videos, their labels and (for evaluation only) their annotations, independent of the file format."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from wtal.config import digest
from wtal.data.names import match_ids
from wtal.data.segments import Annotation, Segment
from wtal.errors import UsageError
from wtal.registry import suggest


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a dataset.

    `duration` is in seconds, None if unknown. `labels` are the classes shown, in class order; they include every class
    of `annotations`. `absent` are classes known not to be shown, in class order. `ambiguous` are ranges that annotators
    could not decide, for all classes.

    The labels of a video are complete: a class that is not among them does not occur. A video without labels is a known
    negative, which shows no class at all; but if `absent` names some classes, nothing is known of the others.
    """

    id: str
    duration: float | None
    subset: str
    labels: tuple[str, ...]
    annotations: tuple[Annotation, ...] = ()
    ambiguous: tuple[Segment, ...] = ()
    absent: tuple[str, ...] = ()

    def shows(self, label: str) -> bool | None:
        """Return True if the video shows a class, False if it does not, None if unknown."""
        if self.labels or not self.absent:
            return label in self.labels
        return False if label in self.absent else None


@dataclass(frozen=True)
class LabelCount:
    """Numbers of videos that show a class, that are known not to, and for which it is unknown."""

    positive: int
    negative: int
    unknown: int


@dataclass(frozen=True)
class Dataset:
    """Videos by id, the class list, and notes on irregularities in the file.

    `classes` is in the order of class ids: sorted by name, unless the file fixes an order. `notes` are sentences for
    the user on unknown labels, videos without annotation, segments beyond their video, and the number of each.
    """

    classes: tuple[str, ...]
    videos: dict[str, VideoRecord]
    notes: tuple[str, ...] = field(default=())

    @property
    def subsets(self) -> dict[str, int]:
        """Number of videos per subset, by name."""
        return dict(Counter(video.subset for video in self.videos.values()))

    def select(self, subset: str) -> list[VideoRecord]:
        """Return the videos of a subset, sorted by id.

        `name@k/n` is fold k (0-based) of n of the subset, split by video; `name@!k/n` is all but that fold: to hold a
        fold out of training, select on it, and leave the reported subset untouched. Commas join subsets; `*` is all.

        Raises:
            UsageError: when no such subset exists; the message lists those that do.
        """
        chosen: dict[str, VideoRecord] = {}
        for part in subset.split(","):
            chosen.update({video.id: video for video in self._select(part.strip())})
        return [chosen[key] for key in sorted(chosen)]

    def match(self, present: Iterable[str], names: Iterable[str] | None = None) -> dict[str, str]:
        """Map ids of the dataset, or only those in `names`, to the ids in `present` that denote the same videos.

        All videos of the dataset are matched, so that none gets an id that belongs to a video outside `names`.
        """
        matches = match_ids(self.videos, present)
        return matches if names is None else {name: matches[name] for name in names if name in matches}

    def label_counts(self, subset: str) -> dict[str, LabelCount]:
        """Count the videos of a subset that show or lack each class: class -> counts, in class order.

        Raises:
            UsageError: when no such subset exists.
        """
        videos = self.select(subset)
        counts = {label: Counter(video.shows(label) for video in videos) for label in self.classes}
        return {label: LabelCount(count[True], count[False], count[None]) for label, count in counts.items()}

    def _select(self, expression: str) -> list[VideoRecord]:
        name, _, fold = expression.partition("@")
        if name != "*" and name not in self.subsets:
            raise UsageError(f"the annotations have no subset {name!r}; {suggest(name, self.subsets)}")
        videos = sorted((v for v in self.videos.values() if name in ("*", v.subset)), key=lambda v: v.id)
        if not fold:
            return videos
        index, count = _fold(fold.removeprefix("!"), expression)
        inside = set(range(index, len(videos), count))
        return [video for i, video in enumerate(videos) if (i in inside) != fold.startswith("!")]


def content_digest(dataset: Dataset, length: int = 12) -> str:
    """Hex digest of a dataset's content (classes, videos, subsets, labels, segments), whatever its file."""
    videos = [
        [v.id, v.duration, v.subset, list(v.labels), [[a.start, a.end, a.label] for a in v.annotations]]
        + ([list(v.absent)] if v.absent else [])
        for v in sorted(dataset.videos.values(), key=lambda v: v.id)
    ]
    return digest([list(dataset.classes), videos], length)


def _fold(text: str, expression: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"a fold is subset@k/n with k < n, or subset@!k/n, got {expression!r}")
    return int(index), int(count)
