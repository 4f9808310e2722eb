"""OpenCV's ffmpeg capture, read in sequence.

It passes over damaged parts in silence, drops nothing at the end, and always takes the first video stream: a file
with several is refused. Its times are milliseconds since the stream's start; they are put back on the file's own
clock, in whole units of the stream's time base.
"""

from collections.abc import Iterator
from fractions import Fraction

import cv2

from wtal.errors import VideoError
from wtal.extractors.decoding.reader import Image, TimedFrame, VideoInfo, upright


def version() -> str:
    """Version of OpenCV."""
    return str(cv2.__version__)


def why_not() -> str | None:
    """The reason, where this build of OpenCV cannot read video files."""
    return None if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else "this build of OpenCV lacks ffmpeg"


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Frames in shown order, upright, native size.

    Raises:
        VideoError: when the file has several video streams, or no frame can be decoded.
    """
    if info.video_streams > 1:
        raise VideoError(f"opencv cannot choose among {info.video_streams} video streams: use --reader pyav")
    capture = cv2.VideoCapture(str(info.path), cv2.CAP_FFMPEG)
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        yield from _with_durations(_shown(capture, info), info.frame_duration)
    finally:
        capture.release()


def _shown(capture: cv2.VideoCapture, info: VideoInfo) -> Iterator[tuple[Fraction, Image]]:
    count = 0
    while capture.grab():
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        decoded, image = capture.retrieve()
        if decoded:
            count += 1
            yield info.start + _snap(milliseconds, info.time_base), upright(_rgb(image), info.rotation)
    if not count:
        raise VideoError("no frame could be decoded by opencv")


def _snap(milliseconds: float, unit: Fraction) -> Fraction:
    return round(Fraction(milliseconds) / 1000 / unit) * unit


def _rgb(image: "cv2.typing.MatLike") -> Image:
    converted: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    return converted


def _with_durations(shown: Iterator[tuple[Fraction, Image]], nominal: Fraction) -> Iterator[TimedFrame]:
    """A frame lasts until the next one; the last one for `nominal` seconds."""
    held: tuple[Fraction, Image] | None = None
    for time, image in shown:
        if held is not None:
            yield TimedFrame(held[0], max(time - held[0], Fraction(0)), held[1])
        held = time, image
    if held is not None:
        yield TimedFrame(held[0], nominal, held[1])
