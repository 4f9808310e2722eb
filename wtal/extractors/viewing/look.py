"""Inspection of a video for display: its clock, whether browsers play it, a poster, and pictures of its detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from wtal.errors import VideoError
from wtal.extractors.decoding.player_clock import first_picture, player_clock
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.repaired import clock_jumps
from wtal.extractors.viewing.browser import why_not_played
from wtal.extractors.viewing.pictures import fitted_size, pictures_at, sheet
from wtal.extractors.viewing.proxy import estimated_bytes

TILE, POSTER = 96, 240
"""Pixels of the longer side of a picture in the sheet, and of the poster."""
COLUMNS = 6
STRIP = 12
"""Number of pictures in a filmstrip, evenly spaced."""
_SHEET_BYTES, _POSTER_BYTES = 36_000, 9_000


@dataclass(frozen=True)
class Look:
    """Findings about a file. `start` and `end` are the player's seconds of its picture, `step` those of one frame.

    `unplayed` is the reason why browsers do not play it, "" if they do. `poster` and `sheet` are JPEGs; the sheet has a
    tile (width, height) for each requested second, then those of the filmstrip at `strip` (player's seconds).
    """

    start: Fraction
    end: float
    step: float
    size: tuple[int, int]
    unplayed: str
    copy_bytes: int
    poster: bytes
    sheet: bytes
    tile: tuple[int, int]
    strip: tuple[float, ...]


def look(
    path: Path, seconds: Sequence[float], poster: float, duration: float | None, strip: bool, effort: float
) -> Look:
    """Inspect a file; `seconds`, `poster` and `duration` count from its first picture.

    `strip` requests a filmstrip if browsers do not play the file, `effort` is in seconds of a core.

    Raises:
        VideoError: with the reason, when the file is not a video or no picture can be decoded.
    """
    info = probe(path)
    first, start = first_picture(info)
    unplayed = why_not_played(info)
    declared = float(player_clock(path).duration if clock_jumps(info) else info.duration or 0)
    length = duration or declared or max((*seconds, poster, 1.0))
    film = [length * (i + 0.5) / STRIP for i in range(STRIP)] if strip and unplayed else []
    try:
        wanted, sides = [*seconds, *film, poster], [TILE] * (len(seconds) + len(film)) + [POSTER]
        *tiles, large = pictures_at(info, first, wanted, sides, effort)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"no picture could be decoded: {error.strerror}") from None
    width, height = fitted_size(info, TILE)
    return Look(
        start,
        float(start) + length,
        float(info.frame_duration),
        (info.height, info.width) if info.rotation % 180 else (info.width, info.height),
        unplayed,
        estimated_bytes(info, length),
        sheet([large], 1, _POSTER_BYTES),
        sheet(tiles, COLUMNS, _SHEET_BYTES) if tiles else b"",
        (width, height),
        tuple(float(start) + second for second in film),
    )
