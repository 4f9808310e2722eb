"""Lessons of verdicts, which are labels alone: no time of a verdict comes into what trains.

1. A class that a verdict confirms (yes, moved, missed) is a label of its video.
2. A video that was looked at shows what is confirmed, and nothing else; of a class that was skipped, what was known
   before stays known. Without any label it is a known negative.
3. In a video that was not looked at, a class of which every detection was rejected is known to be absent where nobody
   has said that it is there. Labels stay: a head may have missed the place.

Labels are complete (`VideoRecord`): a video without labels before, in which some class is confirmed, counts as one that
shows no other. Whoever looks through it says so, and adds what is missed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.names import match_ids
from wtal.data.verdicts import Answer, Verdict, Verdicts

CONFIRMS = frozenset(("yes", "moved", "missed"))
"""Answers that say that a class occurs in the video."""
_NAMED = 3
"""Videos that a line names, at most."""

VideoClass = tuple[str, str]
"""A video's id, and a class."""


@dataclass(frozen=True)
class Lesson:
    """Annotations with what verdicts teach, what that is in sentences, and where it contradicts them."""

    dataset: Dataset
    notes: tuple[str, ...]
    contradictions: tuple[str, ...]


@dataclass(frozen=True)
class _Said:
    """Classes of a video by what a person said of them."""

    confirmed: frozenset[str]
    skipped: frozenset[str]
    rejected: frozenset[str]
    looked_at: bool


def learn(dataset: Dataset, verdicts: Verdicts, subset: str, rejected: Collection[VideoClass] = frozenset()) -> Lesson:
    """Return annotations with what verdicts teach of the videos of a subset; others are reported, and teach nothing.

    Videos that the annotations do not name join the subset, where it is a plain one. `rejected` are videos and classes
    of which every detection was rejected.

    Raises:
        UsageError: when there is no such subset.
    """
    training = {video.id for video in dataset.select(subset)}
    names = {own: video for video, own in match_ids(dataset.videos, _videos(verdicts)).items()}
    said = _said(verdicts, rejected, dataset.classes)
    joins = subset in dataset.subsets
    videos = dict(dataset.videos)
    contradictions = []
    apart = []
    for own, answers in said.items():
        name = names.get(own, own)
        before = videos.get(name)
        if before is None and joins:
            before = VideoRecord(name, None, subset, ())
            after = _of_unknown(before, answers, dataset.classes)
        elif before is None or name not in training:
            apart.append(name)
            continue
        else:
            after = _of_known(before, answers, dataset.classes)
            contradictions += _contradictions(before, after, answers)
        if after is not None:
            videos[name] = after
    changed = {name: video for name, video in videos.items() if video != dataset.videos.get(name)}
    notes = [*_learned(dataset, changed), *_left_out(verdicts, dataset.classes, apart)]
    return Lesson(replace(dataset, videos=videos), tuple(notes), tuple(contradictions))


def _videos(verdicts: Verdicts) -> list[str]:
    return list(dict.fromkeys([*(verdict.video for verdict in verdicts.verdicts), *verdicts.looked_at]))


def _said(verdicts: Verdicts, rejected: Collection[VideoClass], classes: Sequence[str]) -> dict[str, _Said]:
    """Return video -> what was said of it, of those classes that the annotations have."""
    answers: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts.verdicts:
        if verdict.label in classes:
            answers[verdict.video].append(verdict)
    looked_at = set(verdicts.looked_at)

    def of(video: str, kinds: Iterable[Answer]) -> frozenset[str]:
        return frozenset(verdict.label for verdict in answers[video] if verdict.verdict in kinds)

    said = {}
    for video in _videos(verdicts):
        confirmed = of(video, CONFIRMS)  # type: ignore[arg-type]
        gone = frozenset(label for label in classes if (video, label) in rejected) - confirmed
        said[video] = _Said(confirmed, of(video, ("skip",)) - confirmed, gone, video in looked_at)
    return said


def _of_known(video: VideoRecord, said: _Said, classes: Sequence[str]) -> VideoRecord:
    """Return a video of the annotations with what was said of it."""
    absent = set(video.absent)
    if said.looked_at:
        labels = said.confirmed | (said.skipped & set(video.labels))
        unsure = {label for label in said.skipped - labels if video.shows(label) is None}
        absent = absent if labels else set(classes) - unsure if unsure else set()
    else:
        labels = said.confirmed | set(video.labels)
        absent |= {label for label in said.rejected if video.shows(label) is None}
    return replace(
        video,
        labels=_in_order(labels, classes),
        absent=_in_order(absent - labels, classes),
        annotations=tuple(annotation for annotation in video.annotations if annotation.label in labels),
    )


def _of_unknown(video: VideoRecord, said: _Said, classes: Sequence[str]) -> VideoRecord | None:
    """Return a video that nobody had labelled with what was said of it; None where that is nothing."""
    if said.looked_at or said.confirmed:
        absent = [label for label in classes if label not in said.confirmed | said.skipped]
        partly = said.skipped and not said.confirmed
        return replace(video, labels=_in_order(said.confirmed, classes), absent=tuple(absent) if partly else ())
    return replace(video, absent=_in_order(said.rejected, classes)) if said.rejected else None


def _in_order(labels: Collection[str], classes: Sequence[str]) -> tuple[str, ...]:
    return tuple(label for label in classes if label in labels)


def _contradictions(before: VideoRecord, after: VideoRecord, said: _Said) -> list[str]:
    """Return sentences on labels that a person took away from a video, or gave one that was said to lack them."""
    lines = [
        f"{before.id}: labelled {label!r}, a person saw it nowhere there; it is no label any more"
        for label in before.labels
        if label not in after.labels
    ]
    lines += [
        f"{before.id}: said not to show {label!r}, a person saw it there; it is a label now"
        for label in after.labels
        if label in before.absent or (not before.labels and not before.absent)
    ]
    if not said.looked_at:
        lines += [
            f"{before.id}: labelled {label!r}, and every detection of it was rejected; it stays a label, as nobody "
            "says that the video was looked at"
            for label in _in_order(said.rejected, before.labels)
        ]
    return lines


def _learned(dataset: Dataset, changed: Mapping[str, VideoRecord]) -> list[str]:
    """Return a sentence for each kind of what is known anew."""
    before = dataset.videos
    old = {name: before[name].labels if name in before else () for name in changed}
    confirmed = [name for name, video in changed.items() if set(video.labels) - set(old[name])]
    removed = [name for name, video in changed.items() if set(old[name]) - set(video.labels)]
    negative = [name for name, video in changed.items() if not video.labels and not video.absent]
    absent = [name for name, video in changed.items() if not video.labels and video.absent]
    partly = [name for name in confirmed if not old[name]]
    kinds = {
        "videos with labels that were confirmed": confirmed,
        "videos without labels that were given": removed,
        "known negatives": negative,
        "videos that are known to lack some classes": absent,
    }
    lines = [_counted(what, names) for what, names in kinds.items() if names]
    if partly:
        lines.append(f"{_counted('videos had no label before', partly)}: no other class counts as shown there")
    return lines


def _left_out(verdicts: Verdicts, classes: Sequence[str], apart: Sequence[str]) -> list[str]:
    strange = [verdict.label for verdict in verdicts.verdicts if verdict.label not in classes]
    lines = [_counted("videos do not train, and what was said of them teaches nothing", apart)] if apart else []
    if strange:
        lines.append(_counted("verdicts are on classes that the annotations lack, and teach nothing", strange))
    return lines


def _counted(what: str, names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    shown = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
    return f"{len(names)} {what} ({shown})"
