"""Stretches of a video: their packets, and their pictures and sound, decoded from the preceding keyframe."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.clock import FrameClock
from wtal.extractors.decoding.frame_times import FrameTimes
from wtal.extractors.decoding.probe import exact, opened
from wtal.extractors.decoding.reader import Picture, TimedFrame, VideoInfo
from wtal.extractors.decoding.repaired import clock_jumps

SOUND_RATE = 48000
"""Samples of encoded sound per second."""
_MARGIN = Fraction(2)
"""Seconds before a keyframe from which a file is read: sound may precede the picture that it belongs to."""
_NEAR = Fraction(1, av.time_base)
"""Seconds within which two times are considered equal: those of detections are rounded."""
_LOST = Fraction(1, 50)
"""Seconds by which sound may deviate before silence is inserted, or some of it is dropped."""


@dataclass(frozen=True)
class Stretch:
    """A part of a file, in seconds on the file's own clock, from `start` to `end`.

    `keyframe` is the time of the last keyframe before it, None if packets have no times of their own; `packets` the
    number of packets from it to the last picture before `end`, in the order of the file; `last` the time of that
    picture. `lag` is the delay of the times of pictures in the file. `first` is the time of the first picture if the
    file's clock jumps or runs backwards: only decoding from there tells the times of the others, so there is no
    keyframe.
    """

    start: Fraction
    end: Fraction
    keyframe: Fraction | None
    packets: int
    last: Fraction
    lag: Fraction
    first: Fraction | None = None

    @property
    def seconds(self) -> float:
        """Length from `start` to `end`."""
        return float(self.end - self.start)


def stretches(info: VideoInfo, first: Fraction, spans: Sequence[tuple[Fraction, Fraction]]) -> list[Stretch]:
    """Return parts of a file for spans in seconds from its first picture, which is at `first` on the file's clock.

    An empty span means one frame.

    Raises:
        VideoError: when the packets of the file cannot be read.
    """
    borders = [(first + begin, first + max(end, begin + info.frame_duration * (begin == end))) for begin, end in spans]
    if clock_jumps(info):
        return [Stretch(begin, end, None, 0, begin, Fraction(0), first) for begin, end in borders]
    try:
        with opened(info.path) as container:
            stream = container.streams[info.stream]
            packets = [(_time(packet), packet.is_keyframe) for packet in container.demux(stream) if packet.size]
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"the times of its frames cannot be read: {error.strerror}") from None
    # Pictures of an AVI have only decoding times, from which ffmpeg derives later ones.
    known = [time for time, _ in packets if time is not None]
    lag = min(known, default=first) - first if info.container == "avi" else Fraction(0)
    times = [(None if time is None else time - lag, key) for time, key in packets]
    return [_stretch(times, begin, end, lag) for begin, end in borders]


def _stretch(times: list[tuple[Fraction | None, bool]], start: Fraction, end: Fraction, lag: Fraction) -> Stretch:
    keys = [(time, i) for i, (time, key) in enumerate(times) if key and time is not None and time <= start + _NEAR]
    if not keys:
        return Stretch(start, end, None, 0, start, lag)
    keyframe, begin = max(keys)
    inside = [(i, time) for i, (time, _) in enumerate(times) if i >= begin and time is not None and time < end - _NEAR]
    packets = inside[-1][0] + 1 - begin
    untimed = any(time is None for time, _ in times[begin : begin + packets])
    return Stretch(start, end, None if untimed else keyframe, packets, max(time for _, time in inside), lag)


def _time(packet: Any) -> Fraction | None:
    unit = exact(packet.time_base)
    return None if packet.pts is None or unit is None else packet.pts * unit


@contextmanager
def opened_before(info: VideoInfo, part: Stretch) -> Iterator[tuple[InputContainer, VideoStream, AudioStream | None]]:
    """Open a file so that its packets start before a part's keyframe; return its picture, and the sound with it."""
    seeks = _leads_before(info, part)
    with opened(info.path) as container:
        picture = container.streams[info.stream]
        assert isinstance(picture, VideoStream)
        sound = container.streams.best("audio", related=picture)
        assert sound is None or isinstance(sound, AudioStream)
        if seeks:
            _seek(container, picture, part)
        yield container, picture, sound


def _leads_before(info: VideoInfo, part: Stretch) -> bool:
    """Return whether seeking leads to a packet not after the keyframe; indexes may be missing or wrong."""
    if part.keyframe is None:
        return False
    try:
        with opened(info.path) as container:
            picture = container.streams[info.stream]
            _seek(container, picture, part)
            time = next((_time(packet) for packet in container.demux(picture) if packet.size), None)
    except (av.error.FFmpegError, OSError):
        return False
    return time is not None and time - part.lag <= part.keyframe


def _seek(container: InputContainer, picture: Any, part: Stretch) -> None:
    assert part.keyframe is not None
    container.seek(int((part.keyframe + part.lag - _MARGIN) / picture.time_base), stream=picture)


def pictures(info: VideoInfo, part: Stretch) -> Iterator[tuple[Fraction, Fraction, VideoFrame]]:
    """Yield the pictures shown in a part, as stored, each with its start and end from the part's start."""
    length: Fraction = part.end - part.start
    shown = Fraction(0)
    held: VideoFrame | None = None
    decoded = _decoded(info, part) if part.first is None else _repaired(info, part, part.first)
    for time, frame in decoded:
        at: Fraction = time - part.start if time < part.end else length
        begin = max(shown, Fraction(0))
        if held is not None and at > begin + _NEAR:
            yield begin, at, held
        if at >= length - _NEAR:
            return
        # A time that runs backwards is ignored: the picture follows the previous one.
        held, shown = frame, (at if held is None or at > shown else shown)
    if held is not None:
        yield max(shown, Fraction(0)), length, held


def _decoded(info: VideoInfo, part: Stretch) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Yield decoded pictures with their times on the file's clock; damaged ones are skipped."""
    last: Fraction | None = None
    with opened_before(info, part) as (container, picture, _):
        picture.thread_type = "AUTO"
        for frame in _frames(container, picture):
            stamp = frame.pts if frame.pts is not None else frame.dts
            if stamp is not None and frame.time_base:
                last = Fraction(stamp) * frame.time_base - part.lag
            else:
                last = part.start if last is None else last + info.frame_duration
            yield last, frame


def _repaired(info: VideoInfo, part: Stretch, first: Fraction) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Yield decoded pictures from the first one on, with their times on the clock of extraction."""

    def timed() -> Iterator[TimedFrame]:
        frame_times = FrameTimes(info)
        for _, frame in _decoded(info, part):
            time, duration, guessed = frame_times.stamp_of(frame)
            yield TimedFrame(time, duration, cast(Picture, _Stored(frame)), guessed)

    for second, picture in FrameClock(timed(), info):
        yield first + second, cast(_Stored, picture).frame


@dataclass(frozen=True)
class _Stored:
    """A decoded frame in place of a picture, for `FrameClock`."""

    frame: VideoFrame

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels in common formats."""
        return self.frame.width * self.frame.height * 3 // 2


def _frames(container: InputContainer, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError):
            return
        if packet is None:
            return
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError:
            continue


def sounds(info: VideoInfo, part: Stretch) -> Iterator[tuple[Fraction, AudioFrame]]:
    """Yield the sound of a part without gaps, stereo, each piece with its start from the part's start.

    Missing sound is replaced by silence.
    """
    total, position = round((part.end - part.start) * SOUND_RATE), 0
    with opened_before(info, part) as (container, _, stream):
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
        behind: int | None = None
        for frame in _frames(container, stream) if stream else ():
            if frame.pts is not None and frame.time_base:
                wanted = round((Fraction(frame.pts) * frame.time_base - part.start) * SOUND_RATE)
                if behind is None or abs(wanted - behind) > _LOST * SOUND_RATE:
                    behind = wanted
            behind = behind or 0
            for piece in resampler.resample(frame):
                samples = piece.to_ndarray()
                begin, behind = behind, behind + samples.shape[1]
                for block in (_silence(min(begin, total) - position), samples[:, max(0, position - begin) :]):
                    block = block[:, : total - position]
                    if block.shape[1]:
                        yield _sound(block, position)
                        position += block.shape[1]
            if position >= total:
                return
    if position < total:
        yield _sound(_silence(total - position), position)


def _silence(samples: int) -> Any:
    return np.zeros((2, max(0, samples)), np.float32)


def _sound(samples: Any, position: int) -> tuple[Fraction, AudioFrame]:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, position, Fraction(1, SOUND_RATE)
    return Fraction(position, SOUND_RATE), frame
