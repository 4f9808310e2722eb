"""OpenCV's ffmpeg capture, read in sequence: correct on files that pass `limits` and the check of packet times.

It always takes the first video stream, so files with several are refused. It silently skips damaged parts, and its
times are milliseconds since the stream's start, or 0 if unknown: so each time, in whole units of the stream's time
base, must be that of a packet, and each packet must appear. If it cannot convert a frame's colours, it returns the
buffer of the previous frame: if two pictures are equal, the file is searched for interlaced frames.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import av
import cv2
import numpy as np

from wtal.errors import VideoError
from wtal.extractors.decoding.limits import require_within
from wtal.extractors.decoding.packets import packet_times
from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import Image, TimedFrame, VideoInfo, upright


def version() -> str:
    """Return the version of OpenCV."""
    return str(cv2.__version__)


def why_not() -> str | None:
    """Return the reason if this build of OpenCV cannot read video files."""
    return None if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else "this build of OpenCV lacks ffmpeg"


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Yield frames in shown order, upright, native size.

    Raises:
        VideoError: when opencv is not reliable on the file, or no frame can be decoded.
    """
    if info.video_streams > 1:
        raise VideoError(f"opencv cannot choose among {info.video_streams} video streams: use --reader pyav")
    require_within(info, "opencv", wide_colours=False, odd_sides=True)
    durations = dict(times := packet_times(info, "opencv"))
    if len(times) > 2 * len(durations):
        raise VideoError("opencv is not used on files whose timestamps repeat: use --reader pyav")
    capture = cv2.VideoCapture(str(info.path), cv2.CAP_FFMPEG)
    remaining = Counter(time for time, _ in times)
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        for time, image in _shown(capture, info):
            remaining[time] -= 1
            if remaining[time] < 0:
                raise VideoError("opencv's timestamps are not those of the file: use --reader pyav")
            yield TimedFrame(time, durations[time], upright(_rgb(image), info))
    finally:
        capture.release()
    if missing := remaining.total():
        raise VideoError(f"opencv skipped {missing} of {len(times)} frames: use --reader pyav")


def _shown(capture: cv2.VideoCapture, info: VideoInfo) -> Iterator[tuple[Fraction, "cv2.typing.MatLike"]]:
    count = 0
    before: cv2.typing.MatLike | None = None
    checked = False
    while capture.grab():
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        decoded, image = capture.retrieve()
        if not decoded:
            continue
        if not checked and before is not None and np.array_equal(before, image):
            _require_progressive(info)
            checked = True
        before = image
        count += 1
        yield info.start + _snap(milliseconds, info.time_base), image
    if not count:
        raise VideoError("no frame could be decoded by opencv")


def _require_progressive(info: VideoInfo) -> None:
    """Refuse a file with an interlaced frame anywhere; all frames are decoded, none converted."""
    with opened(info.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = container.decode(container.streams[info.stream])
        if any(isinstance(frame, av.VideoFrame) and frame.interlaced_frame for frame in frames):
            raise VideoError("opencv is not reliable on interlaced video: use --reader pyav")


def _snap(milliseconds: float, unit: Fraction) -> Fraction:
    return round(Fraction(milliseconds) / 1000 / unit) * unit


def _rgb(image: "cv2.typing.MatLike") -> Image:
    converted: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    return converted
