"""Selection of detections for export: chosen, joined and widened once, independent of the format."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wtal.data.segments import Detection
from wtal.errors import UsageError

LONGEST = 1e9
"""Maximum seconds of a video: thirty years."""


@dataclass(frozen=True)
class Selection:
    """Selection among the detections of a video, applied in this order.

    `classes` (empty for all) and `min_score` filter; `merge` joins detections of one class at most that many seconds
    apart, keeping the best score; `top` keeps the best of a video; `pad` adds seconds at both ends.

    Raises:
        UsageError: when a number is out of range.
    """

    min_score: float | None = None
    classes: tuple[str, ...] = ()
    merge: float | None = None
    pad: float = 0.0
    top: int | None = None

    def __post_init__(self) -> None:
        for option, value in (("--min-score", self.min_score), ("--merge", self.merge), ("--pad", self.pad)):
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{option} takes a finite number, got {value}")
        if not (0 <= (self.merge or 0) <= LONGEST and 0 <= self.pad <= LONGEST):
            raise UsageError(f"--merge and --pad take seconds from 0 to {LONGEST:g}")
        if self.top is not None and self.top < 1:
            raise UsageError(f"--top takes a number of at least 1, got {self.top}")

    def of(self, detections: Iterable[Detection], duration: float | None) -> tuple[tuple[Detection, ...], int]:
        """Return a video's selected detections, sorted by time, and the number of those outside the video.

        They are clipped to [0, `duration`], in seconds from the first shown frame.
        """
        chosen = [d for d in detections if self._takes(d)]
        if self.merge is not None:
            chosen = joined(chosen, self.merge)
        chosen = sorted(chosen, key=lambda d: -d.score)[: self.top]
        end = math.inf if duration is None else duration
        inside = [d for d in chosen if d.end >= 0 and d.start <= end]
        padded = (replace(d, start=max(0.0, d.start - self.pad), end=min(end, d.end + self.pad)) for d in inside)
        return in_time(padded), len(chosen) - len(inside)

    def _takes(self, detection: Detection) -> bool:
        return (not self.classes or detection.label in self.classes) and (
            self.min_score is None or detection.score >= self.min_score
        )


def in_time(detections: Iterable[Detection]) -> tuple[Detection, ...]:
    """Return detections sorted by start, ties by score, the higher first."""
    return tuple(sorted(detections, key=lambda d: (d.start, -d.score, d.end, d.label)))


def joined(detections: Sequence[Detection], gap: float = 0.0) -> list[Detection]:
    """Join detections of one class closer than `gap` seconds; a joined one has the best score."""
    by_class: dict[str, list[Detection]] = defaultdict(list)
    for detection in sorted(detections, key=lambda d: d.start):
        row = by_class[detection.label]
        if row and detection.start - row[-1].end <= gap:
            last = row.pop()
            detection = replace(last, end=max(last.end, detection.end), score=max(last.score, detection.score))
        row.append(detection)
    return [detection for row in by_class.values() for detection in row]


def flattened(detections: Sequence[Detection]) -> list[Detection]:
    """Resolve overlaps: at every instant, the detection with the best score is kept, and others are cut or split."""
    free: list[Detection] = []
    for detection in sorted(detections, key=lambda d: (-d.score, d.start)):
        free += _uncovered(detection, free)
    return joined(free)


def _uncovered(detection: Detection, taken: Sequence[Detection]) -> list[Detection]:
    pieces, start = [], detection.start
    for other in sorted(taken, key=lambda d: d.start):
        if other.end <= start or other.start >= detection.end:
            continue
        if other.start > start:
            pieces.append(replace(detection, start=start, end=other.start))
        start = max(start, other.end)
    return [*pieces, replace(detection, start=start)] if start < detection.end else pieces
