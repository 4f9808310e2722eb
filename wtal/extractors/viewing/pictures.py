"""Small pictures of a video at given seconds, and sheets of them as JPEG."""

from collections.abc import Sequence
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
from wtal.extractors.decoding.reader import Image, VideoInfo, upright

_QUALITIES = (72, 52, 36, 24)
_NEAR = 2
"""Seconds up to which decoding continues instead of jumping to a key frame."""
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


class _Walk:
    """Walk through a file's frames, in one direction; `frame` is the current one."""

    def __init__(self, info: VideoInfo, container: InputContainer, stream: VideoStream) -> None:
        self.frame: VideoFrame | None = None
        self._info, self._container, self._stream = info, container, stream
        self._tick = float(info.time_base)
        self._frames = container.decode(stream)
        self._next: VideoFrame | None = None
        self._rewound = False
        self._convert = VideoReformatter()

    def to(self, second: float, most: int) -> int:
        """Go to the frame shown at a second, decoding at most `most` frames but at least one; return their number."""
        if self.frame is None or second - self._time(self.frame) > _NEAR:
            self._jump(second)
        count = 0
        while (self._next is None or self._time(self._next) <= second) and (count < most or self.frame is None):
            if self._next is not None:
                self.frame = self._next
            try:
                self._next = next(self._frames, None)
            except (av.error.FFmpegError, OSError):
                self._next = None
            if self._next is None:
                break
            count += 1
        if self.frame is None:
            self.frame = self._next
        if self.frame is None and count == 0 and not self._rewound:  # the second is after the last frame
            self._rewound = True
            self._jump(float(self._info.start))
            return self.to(float(self._info.start), most)
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

    def _jump(self, second: float) -> None:
        try:
            self._container.seek(int(second / self._info.time_base), stream=self._stream)
        except (av.error.FFmpegError, OSError):
            return
        self._frames = self._container.decode(self._stream)
        self._next = None

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
