"""A reel: stretches of many videos in sequence, each with its title in the picture and as a chapter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from wtal.data.files import is_full
from wtal.errors import VideoError
from wtal.extractors.decoding.reader import Image, VideoInfo, upright
from wtal.extractors.viewing.clip import Timed, add_picture, has_sound, reason_of, write_streams, writing
from wtal.extractors.viewing.stretch import SOUND_RATE, Stretch, pictures, sounds

SIZE = (1280, 720)
"""(width, height) of the picture."""
RATE = Fraction(30)
"""Nominal pictures per second for the encoder; each is shown at the time of its video."""
_BAR, _FONT = 56, cv2.FONT_HERSHEY_SIMPLEX
_BT709 = 1


@dataclass(frozen=True)
class TitledStretch:
    """A part of a video and its title."""

    info: VideoInfo
    part: Stretch
    title: str


def write_reel(stretches: Sequence[TitledStretch], file: BinaryIO, suffix: str, mark: str) -> None:
    """Encode stretches in sequence; `mark` becomes the comment of the file.

    Raises:
        VideoError: when the encoder refuses them.
        OSError: when there is no space for it.
    """
    try:
        with writing(file, suffix, mark) as out:
            out.set_chapters(_chapters(stretches))
            stream = add_picture(out, SIZE, RATE)
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            audible = any(has_sound(stretch.info) for stretch in stretches)
            write_streams(out, stream, _pictures(stretches), _sounds(stretches) if audible else None)
    except (av.error.FFmpegError, ValueError) as error:
        if is_full(error):
            raise
        raise VideoError(f"no reel could be encoded: {reason_of(error)}") from None


def _chapters(stretches: Sequence[TitledStretch]) -> list[Any]:
    chapters, begin = [], Fraction(0)
    for number, stretch in enumerate(stretches):
        end = begin + stretch.part.end - stretch.part.start
        chapters.append(
            {
                "id": number,
                "start": round(begin * 1000),
                "end": round(end * 1000),
                "time_base": Fraction(1, 1000),
                "metadata": {"title": stretch.title},
            }
        )
        begin = end
    return chapters


def _pictures(stretches: Sequence[TitledStretch]) -> Iterator[Timed]:
    begin = Fraction(0)
    for stretch in stretches:
        for start, end, frame in pictures(stretch.info, stretch.part):
            yield begin + start, 0, begin + end, _titled(frame, stretch)
        begin += stretch.part.end - stretch.part.start


def _titled(frame: VideoFrame, stretch: TitledStretch) -> VideoFrame:
    """Return a picture upright in the middle of the reel's, its title below."""
    image = upright(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), stretch.info)
    canvas: Image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    height, width = image.shape[:2]
    scale = min(SIZE[0] / width, (SIZE[1] - _BAR) / height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    x, y = (SIZE[0] - width) // 2, (SIZE[1] - _BAR - height) // 2
    canvas[y : y + height, x : x + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    # OpenCV draws only ASCII; the chapter has the other letters.
    title = stretch.title.encode("ascii", "replace").decode()
    size = min(1.0, (SIZE[0] - 40) / max(1, cv2.getTextSize(title, _FONT, 1.0, 2)[0][0]))
    cv2.putText(canvas, title, (20, SIZE[1] - 18), _FONT, size, (255, 255, 255), 2, cv2.LINE_AA)
    return VideoFrame.from_ndarray(canvas, format="rgb24").reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)


def _sounds(stretches: Sequence[TitledStretch]) -> Iterator[Timed]:
    position = 0
    for stretch in stretches:
        for _, frame in sounds(stretch.info, stretch.part):
            assert isinstance(frame, AudioFrame)
            frame.pts, start = position, Fraction(position, SOUND_RATE)
            position += frame.samples
            yield start, 1, start, frame
