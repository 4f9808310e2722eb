"""Videos, their labels and (for the judge only) their annotations, whatever file they came from."""

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

    `duration` is in seconds, None where the file does not say. `labels` are the classes shown, in class order;
    they hold every class of `annotations`. `absent` are classes that someone said are not shown, in class order.
    `ambiguous` are the ranges in which annotators could not tell, of any class.

    The labels of a video are complete: a class that is not among them does not occur. A video without labels shows no
    class at all, a known negative; but where `absent` names some classes, of the others nothing is known.
    """

    id: str
    duration: float | None
    subset: str
    labels: tuple[str, ...]
    annotations: tuple[Annotation, ...] = ()
    ambiguous: tuple[Segment, ...] = ()
    absent: tuple[str, ...] = ()

    def shows(self, label: str) -> bool | None:
        """Return whether the video shows a class; None where nobody said."""
        if self.labels or not self.absent:
            return label in self.labels
        return False if label in self.absent else None


@dataclass(frozen=True)
class LabelCount:
    """Videos that show a class, that are known not to, and of which nobody said."""

    positive: int
    negative: int
    unknown: int


@dataclass(frozen=True)
class Dataset:
    """Videos by id, the class list, and what the reader of the file counted and reported.

    `classes` is in the order of class ids: sorted by name, unless the file fixes an order. `notes` are sentences
    for a person: unknown labels, videos without annotation, segments that leave their video, and how many of each.
    """

    classes: tuple[str, ...]
    videos: dict[str, VideoRecord]
    notes: tuple[str, ...] = field(default=())

    @property
    def subsets(self) -> dict[str, int]:
        """Name of each subset -> number of its videos."""
        return dict(Counter(video.subset for video in self.videos.values()))

    def select(self, subset: str) -> list[VideoRecord]:
        """Videos of a subset, sorted by id.

        `name@k/n` is fold k (0-based) of n of the subset, taken by video; `name@!k/n` is all but that fold: hold a
        fold out of training, choose on it, and leave the reported subset alone. Commas join subsets; `*` is all.

        Raises:
            UsageError: when no such subset exists; the message lists those that do.
        """
        chosen: dict[str, VideoRecord] = {}
        for part in subset.split(","):
            chosen.update({video.id: video for video in self._select(part.strip())})
        return [chosen[key] for key in sorted(chosen)]

    def match(self, present: Iterable[str], names: Iterable[str] | None = None) -> dict[str, str]:
        """Ids of the dataset, or of those the ones in `names` -> the ids `present` that mean them.

        All videos of the dataset take part, so that none is matched with what belongs to one that was not asked for.
        """
        matches = match_ids(self.videos, present)
        return matches if names is None else {name: matches[name] for name in names if name in matches}

    def label_counts(self, subset: str) -> dict[str, LabelCount]:
        """Count the videos of a subset per class by what is known of them: class -> counts, in class order.

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
    """Hex digest of what a dataset says: classes, videos, subsets, labels, segments; not of the file that said it."""
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
