"""Small pictures of a video at given seconds, and sheets of them as JPEG."""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from wtal.errors import VideoError
from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import Image, Picture, VideoInfo, image_of, upright
from wtal.extractors.decoding.repaired import clock_jumps, frames_of

_QUALITIES = (72, 52, 36, 24)
_NEAR = 0.5
"""Seconds up to a key frame over which decoding continues instead of jumping to it."""
_APART = 1.5
"""Assumed seconds from one key frame to the next in files without an index."""
_BACK = (0.0, 2.0, 12.0, 60.0, float("inf"))
"""Seconds to step back if a jump leads behind its second, as in containers without an index."""
_FRAME, _PIXEL = 1e-4, 2.5e-9
"""Seconds of a core per frame, and per pixel of it, in H.264."""


def fitted_size(info: VideoInfo, side: int) -> tuple[int, int]:
    """Return (width, height), both even and neither above `side`, of a video as it is shown."""
    width, height = (info.height, info.width) if info.rotation % 180 else (info.width, info.height)
    scale = min(1.0, side / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def pictures_at(
    info: VideoInfo, first: Fraction, seconds: Sequence[float], sides: Sequence[int], effort: float
) -> list[Image]:
    """Decode pictures at (N,) seconds from the first one -> N pictures (h, w, 3) RGB, upright, scaled to `sides`.

    `first` is the time of the first picture on the file's clock. At most about `effort` seconds of a core are spent:
    beyond that, a picture is the last one decoded on the way to its second.

    Raises:
        VideoError: when no picture can be decoded.
    """
    if clock_jumps(info):
        return _pictures_on_the_way(info, seconds, sides)
    order = sorted(range(len(seconds)), key=lambda i: seconds[i])
    frames = effort / (_FRAME + _PIXEL * info.width * info.height)
    each = max(1, int(frames / max(1, len(seconds))))
    pictures: dict[int, Image] = {}
    with opened(info.path) as container:
        stream = container.streams[info.stream]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "NONE"
        walk = _Walk(info, container, stream)
        saved = 0
        for i in order:
            spent = walk.to(float(first) + seconds[i], each + saved)
            saved += each - spent
            if walk.frame is None:
                raise VideoError("no picture could be decoded")
            pictures[i] = walk.picture(sides[i])
    return [pictures[i] for i in range(len(seconds))]


def _pictures_on_the_way(info: VideoInfo, seconds: Sequence[float], sides: Sequence[int]) -> list[Image]:
    """Decode all frames up to the last second, because timestamps jump or run backwards; the effort is not limited."""
    order = sorted(range(len(seconds)), key=lambda i: seconds[i])
    pictures: dict[int, Image] = {}
    current: Picture | None = None
    for second, picture in frames_of(info):
        while current is not None and len(pictures) < len(order) and seconds[i := order[len(pictures)]] < second:
            pictures[i] = _small(current, info, sides[i])
        if len(pictures) == len(order):
            break
        current = picture
    if current is None:
        raise VideoError("no picture could be decoded")
    return [pictures[i] if i in pictures else _small(current, info, sides[i]) for i in range(len(seconds))]


def _small(picture: Picture, info: VideoInfo, side: int) -> Image:
    small = cv2.resize(image_of(picture), fitted_size(info, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


class _Walk:
    """Walk through a file's frames, in one direction; `frame` is the current one."""

    def __init__(self, info: VideoInfo, container: InputContainer, stream: VideoStream) -> None:
        self.frame: VideoFrame | None = None
        self._info, self._container, self._stream = info, container, stream
        self._tick = float(info.time_base)
        entries = stream.index_entries
        self._keys = [entry.timestamp * self._tick for entry in entries if entry.is_keyframe and len(entries) > 1]
        self._frames = container.decode(stream)
        self._next: VideoFrame | None = None
        self._convert = VideoReformatter()

    def to(self, second: float, most: int) -> int:
        """Go to the frame shown at a second, decoding at most about `most` frames; return their number."""
        count = 0
        if self.frame is None or self._key(second) - self._time(self.frame) > _NEAR:
            count = self._jump(second)
        while count < most:
            if self._next is None:
                self._next = self._read()
                count += 1
            if self._next is None or self._time(self._next) > second:
                break
            self.frame, self._next = self._next, None
        return count

    def picture(self, side: int) -> Image:
        """Return the current picture, small and upright."""
        assert self.frame is not None
        width, height = fitted_size(self._info, side)
        if self._info.rotation % 180:
            width, height = height, width
        small = self._convert.reformat(
            self.frame, width=width, height=height, format="rgb24", interpolation=Interpolation.AREA, threads=1
        )
        return upright(np.asarray(small.to_ndarray(), dtype=np.uint8), self._info)

    def _key(self, second: float) -> float:
        """Return the time of the last key frame up to a second, or a guess if the file has no index."""
        if not self._keys:
            return second - _APART
        return self._keys[max(0, bisect_right(self._keys, second) - 1)]

    def _jump(self, second: float) -> int:
        """Go to the last key frame up to a second; return the number of frames decoded."""
        start = float(self._info.start) - 1  # before its first frame is decoded, which is earlier than it is shown
        count = 0
        for back in _BACK:
            target = max(start, second - back)
            with suppress(av.error.FFmpegError, OSError):
                self._container.seek(int(target / self._info.time_base), stream=self._stream)
                self._frames = self._container.decode(self._stream)
            frame = self._read()
            count += 1
            if frame is not None and (self._time(frame) <= second or target == start):
                self.frame, self._next = frame, None
                break
        return count

    def _read(self) -> VideoFrame | None:
        """Decode the next frame; None at the end of the file, or where it is damaged."""
        try:
            return next(self._frames, None)
        except (av.error.FFmpegError, OSError):
            return None

    def _time(self, frame: VideoFrame) -> float:
        stamp = frame.dts if frame.pts is None else frame.pts
        return (stamp or 0) * self._tick


def sheet(pictures: Sequence[Image], columns: int, most_bytes: int) -> bytes:
    """Arrange (N, h, w, 3) pictures of one size in a JPEG, `columns` per row, below `most_bytes` if possible."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    whole = np.zeros((rows * height, min(columns, len(pictures)) * width, 3), np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        whole[top : top + height, left : left + width] = picture
    content = b""
    for quality in _QUALITIES:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        content = cv2.imencode(".jpg", whole[..., ::-1], options)[1].tobytes()
        if len(content) <= most_bytes:
            break
    return content
