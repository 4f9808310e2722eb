"""Chapters for the description of a YouTube video."""

from collections.abc import Sequence

from wtal.errors import VideoError
from wtal.report.exports import Export, ExportVideo, Sheet

_BEGIN, _BETWEEN = "(begin)", "(other)"

EXPORT = Export(
    readers="YouTube: lines for a video's description",
    suffix="-youtube.txt",
    lacks="ends, scores, overlaps (the best is kept), parts of a second, chapters below 10 s (joined to the "
    "previous one), fewer than three chapters; a class `(begin)` or `(other)` gets ` (2)`",
    overlaps="none",
    reserved=(_BEGIN, _BETWEEN),
)
_SHORTEST, _FEWEST = 10, 3
_NAMED = 3
"""Maximum number of chapters named in a note."""

Chapter = tuple[int, list[str]]


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return lines `M:SS label` of one video: from 0:00, ascending, at least ten seconds apart.

    Shorter chapters are joined to the previous one. Gaps of ten seconds or more between detections become separate
    chapters.

    Raises:
        VideoError: when fewer than three chapters remain, which YouTube would not show.
    """
    (video,) = videos
    chapters, joined = _spaced(_starts(video), video.end)
    if len(chapters) < _FEWEST:
        raise VideoError(f"YouTube shows chapters only if there are at least three; this video has {len(chapters)}")
    text = "".join(f"{_line(start, labels)}\n" for start, labels in chapters)
    note = f"{joined} chapters shorter than {_SHORTEST} s, joined to the previous one: {_named(chapters)}"
    return Sheet(text, (note,) if joined else ())


def _starts(video: ExportVideo) -> list[tuple[int, str]]:
    starts = [(0, _BEGIN)]
    for number, detection in enumerate(video.detections):
        starts.append((round(detection.start), detection.label))
        follower = video.detections[number + 1].start if number + 1 < len(video.detections) else video.end
        if follower is not None and follower - detection.end >= _SHORTEST:
            starts.append((max(round(detection.end), round(detection.start) + 1), _BETWEEN))
    return starts


def _spaced(starts: Sequence[tuple[int, str]], end: float | None) -> tuple[list[Chapter], int]:
    """Return chapters of ten seconds or more, and the number of labels joined to the previous chapter."""
    chapters: list[Chapter] = []
    joined = 0
    for start, label in starts:
        short = end is not None and end - start < _SHORTEST
        if not chapters or (start - chapters[-1][0] >= _SHORTEST and not short):
            chapters.append((start, [label]))
        elif label != _BETWEEN:
            labels = chapters[-1][1]
            joined += labels != [_BEGIN]
            labels[:] = [*(text for text in labels if text not in (_BEGIN, _BETWEEN)), label]
    return chapters, joined


def _named(chapters: Sequence[Chapter]) -> str:
    lines = [_line(start, labels) for start, labels in chapters if len(labels) > 1]
    return ", ".join(lines[:_NAMED] + ["..."] * (len(lines) > _NAMED))


def _line(start: int, labels: Sequence[str]) -> str:
    return f"{_minutes(start)} {' + '.join(dict.fromkeys(labels))}"


def _minutes(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
