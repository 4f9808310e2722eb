"""Lengths of a video according to two sources: its annotations, and its features or detections.

If a file was cut, annotated in another version, or counted at another rate, some segments lie where nothing can be
found: metrics are then wrong but look right. Every difference is therefore counted, and the worst one reported in full.
"""

from collections.abc import Iterable, Mapping, Sequence

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.segments import Segment
from wtal.data.store import FeatureStore
from wtal.data.tally import first_names

SLACK = 1.0
"""Seconds by which two lengths may always differ: programs round, and may or may not count the last frame."""

SHARE = 0.02
"""Share of the longer length by which they may differ: rates of 24 and 25 frames per second differ by more."""


def length_notes(
    dataset: Dataset, store: FeatureStore, keys: Iterable[str] | None = None, subset: str = "*"
) -> tuple[str, ...]:
    """Return sentences on annotated durations that contradict the features, and on segments beyond their end.

    All videos of the store annotated in `subset` are compared, or only those of `keys`. Two rows of features are
    allowed as slack, too.

    Raises:
        UsageError: when the subset does not exist.
    """
    durations, segments = _Worst(), _Worst()
    records = {video.id: video for video in dataset.select(subset)}
    matches = dataset.match(store.ids if keys is None else keys, records)
    for name, key in matches.items():
        grid, video = store.grid(key), records[name]
        end, rows = grid.end, 2 * float(grid.period)
        apart = 0.0 if video.duration is None else abs(video.duration - end)
        if apart > max(_slack(end, video.duration or 0.0), rows):
            durations.add(name, apart, f"annotated as {video.duration:.6g} s, but its features end at {end:.6g} s")
        for segment in video.annotations:
            if segment.end - end > max(_slack(end), rows):
                segments.add(name, segment.end - end, f"{_times(segment)}, but its features end at {end:.6g} s")
    return (
        *durations.sentence(f"videos of {len(matches)} whose annotated duration differs from that of their features"),
        *segments.sentence("segments beyond the end of their features"),
    )


def late_notes(videos: Iterable[VideoRecord], detections: Mapping[str, Sequence[Segment]]) -> tuple[str, ...]:
    """Return sentences on detections beyond the annotated duration of their video; both are matched by id."""
    late = _Worst()
    for video in videos:
        if video.duration is None:
            continue
        most = video.duration + _slack(video.duration)
        for segment in detections.get(video.id, ()):
            if segment.end > most:
                text = f"{_times(segment)}, but it is annotated as {video.duration:.6g} s"
                late.add(video.id, segment.end - video.duration, text)
    return late.sentence("detections beyond the annotated end of their video")


class _Worst:
    """Findings of one kind: their number, the first few names, and the worst with its numbers."""

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
