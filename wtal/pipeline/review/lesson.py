"""Lessons from verdicts, which are labels only: no time of a verdict is used in training.

1. A class that a verdict confirms (yes, moved, missed) is a label of its video.
2. A reviewed video shows what is confirmed, and nothing else; for a skipped class, earlier knowledge is kept. Without
   any label it is a known negative.
3. In a video that was not reviewed, a class whose every detection was rejected is known to be absent unless it is a
   label. Labels stay: the head may have missed the action.

Labels are complete (`VideoRecord`): a video without earlier labels, in which some class is confirmed, counts as showing
no other. Marking a video as reviewed requires adding what is missed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.names import match_ids
from wtal.data.verdicts import Answer, Verdict, Verdicts

CONFIRMS = frozenset(("yes", "moved", "missed"))
"""Answers meaning that a class occurs in the video."""
_NAMED = 3
"""Maximum number of videos named in a line."""

VideoClass = tuple[str, str]
"""A video's id, and a class."""


@dataclass(frozen=True)
class Lesson:
    """Annotations extended by verdicts, the changes as sentences, and contradictions between the two."""

    dataset: Dataset
    notes: tuple[str, ...]
    contradictions: tuple[str, ...]


@dataclass(frozen=True)
class _Answers:
    """Classes of a video by verdict."""

    confirmed: frozenset[str]
    skipped: frozenset[str]
    rejected: frozenset[str]
    looked_at: bool


def learn(dataset: Dataset, verdicts: Verdicts, subset: str, rejected: Collection[VideoClass] = frozenset()) -> Lesson:
    """Return annotations extended by the verdicts on videos of a subset; others are reported, and teach nothing.

    Videos without annotations join the subset, if it is a plain one. `rejected` are videos and classes of which every
    detection was rejected.

    Raises:
        UsageError: when the subset does not exist.
    """
    training = {video.id for video in dataset.select(subset)}
    names = {own: video for video, own in match_ids(dataset.videos, _videos(verdicts)).items()}
    answers_by_video = _answers_by_video(verdicts, rejected, dataset.classes)
    joins = subset in dataset.subsets
    videos = dict(dataset.videos)
    contradictions = []
    apart = []
    for own, answers in answers_by_video.items():
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


def _answers_by_video(
    verdicts: Verdicts, rejected: Collection[VideoClass], classes: Sequence[str]
) -> dict[str, _Answers]:
    """Return video -> verdicts on it, for the classes of the annotations."""
    given: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts.verdicts:
        if verdict.label in classes:
            given[verdict.video].append(verdict)
    looked_at = set(verdicts.looked_at)

    def of(video: str, kinds: Iterable[Answer]) -> frozenset[str]:
        return frozenset(verdict.label for verdict in given[video] if verdict.verdict in kinds)

    answers = {}
    for video in _videos(verdicts):
        confirmed = of(video, CONFIRMS)  # type: ignore[arg-type]
        gone = frozenset(label for label in classes if (video, label) in rejected) - confirmed
        answers[video] = _Answers(confirmed, of(video, ("skip",)) - confirmed, gone, video in looked_at)
    return answers


def _of_known(video: VideoRecord, answers: _Answers, classes: Sequence[str]) -> VideoRecord:
    """Return an annotated video, updated by the verdicts on it."""
    absent = set(video.absent)
    if answers.looked_at:
        labels = answers.confirmed | (answers.skipped & set(video.labels))
        unsure = {label for label in answers.skipped - labels if video.shows(label) is None}
        absent = absent if labels else set(classes) - unsure if unsure else set()
    else:
        labels = answers.confirmed | set(video.labels)
        absent |= {label for label in answers.rejected if video.shows(label) is None}
    return replace(
        video,
        labels=_in_order(labels, classes),
        absent=_in_order(absent - labels, classes),
        annotations=tuple(annotation for annotation in video.annotations if annotation.label in labels),
    )


def _of_unknown(video: VideoRecord, answers: _Answers, classes: Sequence[str]) -> VideoRecord | None:
    """Return a video without labels, updated by the verdicts on it; None if they teach nothing."""
    if answers.looked_at or answers.confirmed:
        absent = [label for label in classes if label not in answers.confirmed | answers.skipped]
        partly = answers.skipped and not answers.confirmed
        return replace(video, labels=_in_order(answers.confirmed, classes), absent=tuple(absent) if partly else ())
    return replace(video, absent=_in_order(answers.rejected, classes)) if answers.rejected else None


def _in_order(labels: Collection[str], classes: Sequence[str]) -> tuple[str, ...]:
    return tuple(label for label in classes if label in labels)


def _contradictions(before: VideoRecord, after: VideoRecord, answers: _Answers) -> list[str]:
    """Return sentences on labels that reviewers removed from a video, or added despite a statement of absence."""
    lines = [
        f"{before.id}: labelled {label!r}, but the reviewer saw none of it; the label is removed"
        for label in before.labels
        if label not in after.labels
    ]
    lines += [
        f"{before.id}: stated not to show {label!r}, but the reviewer saw it; the label is added"
        for label in after.labels
        if label in before.absent or (not before.labels and not before.absent)
    ]
    if not answers.looked_at:
        lines += [
            f"{before.id}: labelled {label!r}, but every detection of it was rejected; the label stays, as the video "
            "was not marked as reviewed"
            for label in _in_order(answers.rejected, before.labels)
        ]
    return lines


def _learned(dataset: Dataset, changed: Mapping[str, VideoRecord]) -> list[str]:
    """Return a sentence for each kind of new knowledge."""
    before = dataset.videos
    old = {name: before[name].labels if name in before else () for name in changed}
    confirmed = [name for name, video in changed.items() if set(video.labels) - set(old[name])]
    removed = [name for name, video in changed.items() if set(old[name]) - set(video.labels)]
    negative = [name for name, video in changed.items() if not video.labels and not video.absent]
    absent = [name for name, video in changed.items() if not video.labels and video.absent]
    partly = [name for name in confirmed if not old[name]]
    kinds = {
        "videos with confirmed labels": confirmed,
        "videos with labels removed": removed,
        "known negatives": negative,
        "videos known to lack some classes": absent,
    }
    lines = [_counted(what, names) for what, names in kinds.items() if names]
    if partly:
        lines.append(f"{_counted('videos had no label before', partly)}: no other class counts as shown there")
    return lines


def _left_out(verdicts: Verdicts, classes: Sequence[str], apart: Sequence[str]) -> list[str]:
    strange = [verdict.label for verdict in verdicts.verdicts if verdict.label not in classes]
    lines = [_counted("videos are not used for training, so verdicts on them teach nothing", apart)] if apart else []
    if strange:
        lines.append(_counted("verdicts are on classes missing from the annotations, and teach nothing", strange))
    return lines


def _counted(what: str, names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    shown = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
    return f"{len(names)} {what} ({shown})"
