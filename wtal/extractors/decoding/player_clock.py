"""The clock that players show of a file, and whether its frames come evenly: what other programs need to be told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.probe import OPTIONS, probe


@dataclass(frozen=True)
class PlayerClock:
    """When a file's pictures are shown, in seconds.

    Players show 0 where the file's clock is at `file_start`, be that sound or picture; the first picture comes at
    `start` of theirs. `duration` is that of the picture, `frames` the number of its frames. `rate` is None where it is
    variable: where a frame is further than half its length from its place at the rate of the header. `size` is
    (width, height) as shown, `sound` whether there is any.
    """

    file_start: Fraction
    start: Fraction
    duration: Fraction
    frames: int
    rate: Fraction | None
    size: tuple[int, int]
    sound: bool


def player_clock(path: Path) -> PlayerClock:
    """Read the clock of a file: its headers, its first picture, and the time of each frame, without decoding others.

    Raises:
        VideoError: with the reason, when the file is no video or none of its frames decodes.
    """
    info = probe(path)
    try:
        with av.open(str(info.path), options=OPTIONS) as container:
            stream = container.streams[info.stream]
            assert isinstance(stream, VideoStream)
            file_start = Fraction(container.start_time or 0, av.time_base)
            first = _first_shown(container, stream)
            container.seek(container.start_time or 0)
            times = sorted(time for time in _times(container, stream, info.frame_duration) if time >= first)
            rates = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
            sound = bool(container.streams.audio)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"the times of its frames cannot be read: {error.strerror}") from None
    rate = next((Fraction(rate) for rate in rates if _is_even(times, Fraction(rate))), None)
    last = 1 / rate if rate else info.frame_duration
    turned = info.rotation % 180 != 0
    size = (info.height, info.width) if turned else (info.width, info.height)
    return PlayerClock(file_start, first - file_start, times[-1] - first + last, len(times), rate, size, sound)


def _first_shown(container: InputContainer, stream: VideoStream) -> Fraction:
    frame = next(container.decode(stream), None)
    if frame is None:
        raise VideoError("none of its frames decodes")
    time = frame.pts if frame.pts is not None else frame.dts
    return (time or 0) * (stream.time_base or Fraction(1, av.time_base))


def _times(container: InputContainer, stream: VideoStream, spacing: Fraction) -> Iterator[Fraction]:
    """Yield the time of each packet that is shown; one without a time follows the one before."""
    last = None
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base:
            last = time * packet.time_base
        else:
            last = Fraction(0) if last is None else last + spacing
        yield last


def _is_even(times: Sequence[Fraction], rate: Fraction) -> bool:
    return all(abs((time - times[0]) * rate - number) <= Fraction(1, 2) for number, time in enumerate(times))
