"""Chapters in a copy of a video: its packets unchanged, and the list of chapters that players show."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from wtal.data.files import is_full
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import opened
from wtal.extractors.viewing.proxy import REPEATABLE

_HOLDING = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""File extensions that support chapters -> their format."""
_GAPLESS = ("mp4", "mov")
"""Formats with contiguous chapters from the beginning: gaps become chapters of their own."""
_BETWEEN = "(other)"
_COPIED = ("video", "audio", "subtitle")
_UNIT = Fraction(1, 1000)

Chapter = tuple[int, int, str]
"""Start and end in milliseconds, as a player shows them, and the title."""


def copy_with_chapters(source: Path, target: Path, chapters: Sequence[Chapter]) -> None:
    """Write a copy of a video with chapters in it, replacing any it had; nothing is re-encoded.

    The copy's own clock begins at 0, like that of players. `target` may have any extension.

    Raises:
        VideoError: when the container does not support chapters, or the file cannot be copied.
        OSError: when there is no space for it.
    """
    form = _HOLDING.get(source.suffix.lower())
    if form is None:
        holding = ", ".join(_HOLDING)
        raise VideoError(
            f"files like {source.suffix or 'this'} cannot hold chapters, {holding} can: use the ffmetadata file"
        )
    parts = _without_gaps(chapters) if form in _GAPLESS else chapters
    try:
        with opened(source) as container, av.open(str(target), "w", format=form, options=REPEATABLE) as out:
            _copy(container, out, parts)
        with opened(target) as copy:
            written = len(copy.chapters())
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if is_full(error):
            raise
        raise VideoError(f"it cannot be copied: {getattr(error, 'strerror', None) or error}") from None
    if written != len(parts):
        raise VideoError(f"its container accepted {written} of {len(parts)} chapters; the ffmetadata file has them all")


def _without_gaps(chapters: Sequence[Chapter]) -> list[Chapter]:
    """Return chapters with others added before and between them."""
    parts: list[Chapter] = []
    at = 0
    for start, end, title in chapters:
        parts += [(at, start, _BETWEEN)] if start > at else []
        parts.append((start, end, title))
        at = end
    return parts


def _copy(container: InputContainer, out: OutputContainer, chapters: Sequence[Chapter]) -> None:
    begin = Fraction(container.start_time or 0, av.time_base)
    targets: dict[int, Any] = {}
    for stream in container.streams:
        if stream.type in _COPIED:
            with suppress(ValueError):  # a stream without an encoder, such as a camera's own
                targets[stream.index] = out.add_stream_from_template(stream)
    if not any(target.type == "video" for target in targets.values()):
        raise VideoError("it cannot be copied: its picture codec cannot be written")
    out.metadata.update(container.metadata)
    out.set_chapters(
        [
            {"id": number, "start": start, "end": end, "time_base": _UNIT, "metadata": {"title": title}}
            for number, (start, end, title) in enumerate(chapters)
        ]
    )
    for packet in container.demux([stream for stream in container.streams if stream.index in targets]):
        if not packet.size:
            continue
        shift = round(begin / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = targets[packet.stream.index]
        out.mux(packet)
