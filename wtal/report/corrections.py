"""A reviewer's corrections: a video's exported detections, compared with a program's file.

1. A segment with both ends where the export put them is unchanged.
2. Among the rest, the segment and the detection of a class that overlap most are matched as moved; and so on.
3. A remaining detection is moved too if segments of its class cover half of it: it was joined to others. Otherwise
   it is gone.
4. A remaining segment is new.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from wtal.data.segments import Detection, Segment, tiou

_COVERED = 0.5
"""Share of a detection that segments of its class must cover for it to count as joined to others."""

Change = Literal["unchanged", "moved", "gone", "new"]


@dataclass(frozen=True)
class ExportedSegment:
    """A segment as written by the export, and the detections merged into it, the most confident first."""

    segment: Segment
    label: str
    detections: tuple[Detection, ...]


@dataclass(frozen=True)
class Correction:
    """A change: from an exported segment (None for a new one); to a segment (None for a deleted one)."""

    change: Change
    label: str
    exported: ExportedSegment | None
    segment: Segment | None


def corrections(
    exported: Sequence[ExportedSegment], present: Sequence[tuple[Segment, str]], tolerance: float
) -> list[Correction]:
    """Compare the export with the segments and labels present; ends differ beyond `tolerance` seconds."""
    changes: list[Correction] = []
    for label in dict.fromkeys([*(own.label for own in exported), *(label for _, label in present)]):
        own = [entry for entry in exported if entry.label == label]
        segments = [segment for segment, other in present if other == label]
        changes += _of_class(label, own, segments, tolerance)
    return changes


def joined_origins(
    exported: Detection, others: Collection[Detection], alone: Sequence[tuple[Detection, Detection]]
) -> tuple[Detection, ...]:
    """Return the detections joined into an exported one, the most confident first.

    `others` are all exported detections of the video: those inside this one that were exported themselves are not part
    of it. `alone` are pairs of a detection and its export without others.
    """
    inside = [
        origin
        for origin, own in alone
        if own == exported or (own not in others and own.score <= exported.score and _contains(exported, own))
    ]
    return tuple(sorted(inside, key=lambda origin: -origin.score))


def _contains(exported: Detection, own: Detection) -> bool:
    return own.label == exported.label and exported.start <= own.start and own.end <= exported.end


def _of_class(
    label: str, own: Sequence[ExportedSegment], segments: Sequence[Segment], tolerance: float
) -> list[Correction]:
    pairs = sorted(
        (_apart(entry.segment, segment), i, j)
        for i, entry in enumerate(own)
        for j, segment in enumerate(segments)
        if _apart(entry.segment, segment) <= tolerance
    )
    unchanged = _matched(pairs, {}, set())
    overlaps = sorted(
        (-tiou(entry.segment, segment), i, j)
        for i, entry in enumerate(own)
        for j, segment in enumerate(segments)
        if tiou(entry.segment, segment) > 0
    )
    matches = _matched(overlaps, dict(unchanged), set(unchanged.values()))
    changes = []
    for i, entry in enumerate(own):
        j = matches.get(i, _cover(entry.segment, segments))
        kind: Change = "unchanged" if i in unchanged else "gone" if j is None else "moved"
        changes.append(Correction(kind, label, entry, None if j is None else segments[j]))
    taken = set(matches.values())
    return [*changes, *(Correction("new", label, None, own) for j, own in enumerate(segments) if j not in taken)]


def _matched(pairs: Sequence[tuple[float, int, int]], matches: dict[int, int], taken: set[int]) -> dict[int, int]:
    """Accept pairs in order, using each index of either side once."""
    for _, i, j in pairs:
        if i not in matches and j not in taken:
            matches[i] = j
            taken.add(j)
    return matches


def _apart(first: Segment, second: Segment) -> float:
    return max(abs(first.start - second.start), abs(first.end - second.end))


def _cover(segment: Segment, others: Sequence[Segment]) -> int | None:
    """Return the index of the segment that covers most of a detection, at least half of it; None if there is none."""
    shares = [min(segment.end, other.end) - max(segment.start, other.start) for other in others]
    best = max(range(len(others)), key=shares.__getitem__, default=None)
    return best if best is not None and 0 < shares[best] >= _COVERED * segment.duration else None
