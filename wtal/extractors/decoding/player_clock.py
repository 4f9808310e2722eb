"""The clock that players show for a file, and whether its frames are evenly spaced, for use by other programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.probe import exact, opened, probe
from wtal.extractors.decoding.reader import VideoInfo
from wtal.extractors.decoding.repaired import clock_jumps, frames_of

_AS_NEAR = 0.02
"""Frames by which distances may differ if times are written in milliseconds."""


@dataclass(frozen=True)
class PlayerClock:
    """Display times of a file's pictures, in seconds.

    Players show 0 where the file's clock is at `file_start`, be that sound or picture; the first picture appears at
    their `start`. `duration` is that of the picture, `frames` its number of frames. `rate` is None if variable: if some
    frame is more than half its length from its position at any constant rate. `size` is (width, height) as shown,
    `sound` whether there is any.
    """

    file_start: Fraction
    start: Fraction
    duration: Fraction
    frames: int
    rate: Fraction | None
    size: tuple[int, int]
    sound: bool


def first_picture(info: VideoInfo) -> tuple[Fraction, Fraction]:
    """Return the second at which the first picture is shown: on the file's clock, and as players count.

    Raises:
        VideoError: when no frame could be decoded.
    """
    first = _first_shown(info)
    return first, _tidy(first - _file_start(info, first))


def player_clock(path: Path) -> PlayerClock:
    """Read the clock of a file: its headers, its first picture, and the time of each frame.

    The other pictures are decoded only if timestamps jump or run backwards, which are then repaired as in extraction.

    Raises:
        VideoError: with the reason, when the file is not a video or no frame could be decoded.
    """
    info = probe(path)
    first = _first_shown(info)
    try:
        with opened(info.path) as container:
            stream = container.streams[info.stream]
            assert isinstance(stream, VideoStream)
            times = _shown_times(info, container, stream, first)
            rates = exact(stream.average_rate), exact(stream.guessed_rate)
            stated = [rate for rate in rates if rate is not None]
            sound = bool(container.streams.audio)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"the times of its frames cannot be read: {error.strerror}") from None
    file_start = _file_start(info, first)
    rate = _even_rate(times, stated)
    last = 1 / rate if rate else info.frame_duration
    turned = info.rotation % 180 != 0
    size = (info.height, info.width) if turned else (info.width, info.height)
    return PlayerClock(file_start, _tidy(first - file_start), times[-1] - first + last, len(times), rate, size, sound)


def _first_shown(info: VideoInfo) -> Fraction:
    """Return the time of the first picture on the file's clock: second 0 of the extraction."""
    clock = frames_of(info)
    jumps = clock_jumps(info)
    for _ in clock:
        if not jumps:
            return clock.start
    if clock.end == 0:
        raise VideoError("no frame could be decoded")
    return clock.start


def _file_start(info: VideoInfo, first: Fraction) -> Fraction:
    """Return second 0 of players on the file's clock; headers may have it from a timestamp that jumps."""
    stated = info.file_start or Fraction(0)
    return min(stated, first) if clock_jumps(info) else stated


def _shown_times(
    info: VideoInfo, container: InputContainer, stream: VideoStream, first: Fraction
) -> Sequence[Fraction]:
    """Return the time of each shown picture on the file's clock, in order; pictures are decoded if the clock jumps."""
    if clock_jumps(info):
        return [first + second for second, _ in frames_of(info)]
    return sorted(time for time in _times(container, stream, info.frame_duration) if time >= first)


def _times(container: InputContainer, stream: VideoStream, spacing: Fraction) -> Iterator[Fraction]:
    """Yield the time of each packet that is shown; one without a time follows its predecessor."""
    last = None
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        time = packet.pts if packet.pts is not None else packet.dts
        unit = exact(packet.time_base)
        following = Fraction(0) if last is None else last + spacing
        last = following if time is None or unit is None else time * unit
        yield last


def _even_rate(times: Sequence[Fraction], stated: Sequence[Fraction]) -> Fraction | None:
    """Return the rate at which each frame lies within half a frame of its position; None if there is none.

    Headers may be slightly wrong, most of all those of short files: the best fitting rate is chosen among the stated
    and common ones, the first in case of a tie.
    """
    rates = [*stated, *_usual(times)]
    distances = [_distance(times, rate) for rate in rates]
    nearest = min(distances, default=1.0)
    if nearest > 0.5:
        return None
    return next(rate for rate, distance in zip(rates, distances, strict=True) if distance <= nearest + _AS_NEAR)


def _usual(times: Sequence[Fraction]) -> list[Fraction]:
    """Return the integer rate nearest to the mean of the frames, 1000/1001 of it, and the mean itself."""
    if len(times) < 2 or times[-1] == times[0]:
        return []
    mean = (len(times) - 1) / (times[-1] - times[0])
    whole = [Fraction(round(mean)), Fraction(round(mean) * 1000, 1001)] if mean > Fraction(1, 2) else []
    return [*whole, mean.limit_denominator(1001)]


def _distance(times: Sequence[Fraction], rate: Fraction) -> float:
    """Return the maximum distance of a frame from its position, in frames."""
    seconds = np.array([float(time - times[0]) for time in times])
    return float(np.abs(seconds * float(rate) - np.arange(len(times))).max())


def _tidy(seconds: Fraction) -> Fraction:
    """Return the seconds, or 0 if below the microsecond to which a file's start is known."""
    return seconds if abs(seconds) > Fraction(1, av.time_base) else Fraction(0)
