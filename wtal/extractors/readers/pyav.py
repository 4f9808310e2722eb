"""PyAV, read in sequence: the reference reader, right on every file that ffmpeg can decode.

A packet that cannot be decoded is skipped, as in the ffmpeg command: the previous frame stays on screen longer. An
empty packet, as in Theora, repeats a picture; at the end of a file, the last one is shown again. Timestamps are
ffmpeg's "best effort": presentation times, or decoding times for containers (AVI) whose presentation times run
backwards more often.
"""

from collections.abc import Iterator
from functools import partial

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.frame_times import FrameTimes
from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import (
    DeferredImage,
    Image,
    TimedFrame,
    VideoBroken,
    VideoInfo,
    upright,
    upright_shape,
)

# Fixed, as the result of decoding a damaged stream depends on it, and must not depend on the machine.
_THREADS = 4


def version() -> str:
    """Return the versions of PyAV and of its libavcodec."""
    return f"{av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"


def why_not() -> str | None:
    """Return None: PyAV is always available."""
    return None


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Yield frames in shown order, upright, native size.

    Raises:
        VideoError: when no frame can be decoded.
        VideoBroken: after the last frame, when reading was interrupted or packets could not be decoded.
    """
    frame_times = FrameTimes(info)
    damage = _Damage()
    repeats = _Repeats()
    count = 0
    last: TimedFrame | None = None
    convert = VideoReformatter()
    with opened(info.path) as container:
        stream = container.streams[info.stream]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _THREADS
        for frame in _decode(container, stream, damage, repeats):
            time, duration, guessed = frame_times.stamp_of(frame)
            count += 1
            shape = upright_shape(frame.width, frame.height, info)
            picture = DeferredImage(shape, partial(_image, convert, frame, info))
            if count == 1:
                _ = picture.image  # colours that cannot be converted end the file at once
            last = TimedFrame(time, duration, picture, guessed)
            yield last
    if last is not None:
        yield from repeats.of(last, info)
    damage.report(count)


def _image(convert: VideoReformatter, frame: VideoFrame, info: VideoInfo) -> Image:
    """Convert on one thread: decoding uses the others, and pictures are too small to share one."""
    try:
        rgb = convert.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
    except av.error.FFmpegError as error:
        raise VideoError(f"the colours of the frames cannot be converted: {error.strerror}") from None
    return upright(np.asarray(rgb.to_ndarray(), dtype=np.uint8), info)


class _Damage:
    """Damage of a file: packets that could not be decoded, and the first reason."""

    def __init__(self) -> None:
        self.packets = 0
        self.lost = 0
        self.broke = False
        self.reason = "the file holds no packet of the stream"

    def note(self, error: av.error.FFmpegError) -> None:
        if not self.lost:
            self.reason = error.strerror or type(error).__name__
        self.lost += 1

    def report(self, frames: int) -> None:
        if not frames:
            raise VideoError(f"no frame could be decoded: {self.reason}")
        if self.broke:
            raise VideoBroken(f"reading was interrupted after {frames} frames: {self.reason}")
        if self.lost:
            raise VideoBroken(f"{self.lost} of {self.packets} packets could not be decoded: {self.reason}")


class _Repeats:
    """Empty packets at the end of a stream: time and duration of each, in units of the stream's clock."""

    def __init__(self) -> None:
        self._stamps: list[tuple[int, int]] = []

    def note(self, packet: "Packet[VideoStream]") -> None:
        """Take the next packet of the stream into account."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.size:
            self._stamps.clear()
        elif stamp is not None:
            self._stamps.append((stamp, packet.duration or 0))

    def of(self, last: TimedFrame, info: VideoInfo) -> Iterator[TimedFrame]:
        """Yield the last frame again, at the times of the empty packets after it."""
        for stamp, duration in self._stamps:
            time = stamp * info.time_base
            if time > last.time:
                yield TimedFrame(time, duration * info.time_base or info.declared_frame_duration, last.picture)


def _decode(container: InputContainer, stream: VideoStream, damage: _Damage, repeats: _Repeats) -> Iterator[VideoFrame]:
    for packet in _packets(container, stream, damage, repeats):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError as error:
            damage.note(error)


def _packets(
    container: InputContainer, stream: VideoStream, damage: _Damage, repeats: _Repeats
) -> Iterator["Packet[VideoStream] | None"]:
    """Yield packets of the stream, and finally None, which makes the decoder return what it still holds."""
    try:
        for packet in container.demux(stream):
            repeats.note(packet)
            if packet.size:
                damage.packets += 1
                yield packet
    except av.error.FFmpegError as error:
        damage.note(error)
        damage.broke = True
    yield None
