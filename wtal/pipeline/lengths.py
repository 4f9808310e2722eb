"""Lengths that two sources tell of one video: its annotations, and its features or detections.

A file that was cut, annotated in another version, or counted at another rate has segments where nothing can be found:
figures are then wrong and look right. So every difference is counted, and the worst one told with both its numbers.
"""

from collections.abc import Iterable, Mapping, Sequence

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.segments import Segment
from wtal.data.store import FeatureStore
from wtal.data.tally import first_names

SLACK = 1.0
"""Seconds by which two lengths may always differ: programs round, and count the last frame or not."""

SHARE = 0.02
"""Share of the longer one by which they may differ: the rates of 24 and 25 frames a second are further apart."""


def length_notes(
    dataset: Dataset, store: FeatureStore, keys: Iterable[str] | None = None, subset: str = "*"
) -> tuple[str, ...]:
    """Sentences on annotated durations that are not the features', and on segments that end behind the features.

    All videos of the store are compared that the annotations have in `subset`, or those of `keys` alone. Two rows of
    features are slack too.

    Raises:
        UsageError: when there is no such subset.
    """
    durations, segments = _Worst(), _Worst()
    records = {video.id: video for video in dataset.select(subset)}
    matches = dataset.match(store.ids if keys is None else keys, records)
    for name, key in matches.items():
        grid, video = store.grid(key), records[name]
        end, rows = grid.end, 2 * float(grid.period)
        apart = 0.0 if video.duration is None else abs(video.duration - end)
        if apart > max(_slack(end, video.duration or 0.0), rows):
            durations.add(name, apart, f"annotated as {video.duration:.6g} s, and its features end at {end:.6g} s")
        for segment in video.annotations:
            if segment.end - end > max(_slack(end), rows):
                segments.add(name, segment.end - end, f"{_times(segment)}, and its features end at {end:.6g} s")
    return (
        *durations.sentence(f"videos of {len(matches)} whose annotated duration is not that of their features"),
        *segments.sentence("segments behind the end of their features"),
    )


def late_notes(videos: Iterable[VideoRecord], detections: Mapping[str, Sequence[Segment]]) -> tuple[str, ...]:
    """Sentences on detections that end behind the annotated duration of their video; both go by one id."""
    late = _Worst()
    for video in videos:
        if video.duration is None:
            continue
        most = video.duration + _slack(video.duration)
        for segment in detections.get(video.id, ()):
            if segment.end > most:
                text = f"{_times(segment)}, and it is annotated as {video.duration:.6g} s"
                late.add(video.id, segment.end - video.duration, text)
    return late.sentence("detections behind the annotated end of their video")


class _Worst:
    """Findings of one kind: how many, the first few names, and the worst with its numbers."""

    def __init__(self) -> None:
        self._count = 0
        self._names: dict[str, None] = {}
        self._most, self._text = 0.0, ""

    def add(self, name: str, apart: float, numbers: str) -> None:
        self._count += 1
        self._names[name] = None
        if apart > self._most:
            self._most, self._text = apart, f"{name}, {numbers}"

    def sentence(self, finding: str) -> tuple[str, ...]:
        if not self._count:
            return ()
        return (f"{finding}: {self._count} ({first_names(self._names)}); the worst is {self._text}",)


def _slack(*lengths: float) -> float:
    return max(SLACK, SHARE * max(lengths))


def _times(segment: Segment) -> str:
    return f"{segment.start:.6g} to {segment.end:.6g} s"
