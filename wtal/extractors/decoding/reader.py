"""Types for readers: headers, images, a summary; their contract is `wtal.extractors.readers.ReaderLeaf`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.errors import VideoError

Image = NDArray[np.uint8]
REFERENCE = "pyav"
"""The reader that is correct for every file, and the fastest in measurements."""
TIME_LIMIT = 60.0
"""Default maximum seconds that a reader may take for its next frame."""


class VideoBroken(VideoError):  # noqa: N818 - named after the event
    """Parts of the file could not be decoded: the frames before this error are good and are used."""


class DeferredImage:
    """A decoded picture of `shape` (H, W, 3) whose colours are converted on first use, and then kept.

    Resampling drops frames, and those need no conversion.
    """

    def __init__(self, shape: tuple[int, int, int], convert: Callable[[], Image]) -> None:
        self.shape = shape
        self._convert: Callable[[], Image] | None = convert
        self._image: Image | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the image."""
        return math.prod(self.shape)

    @property
    def image(self) -> Image:
        """Return (H, W, 3) uint8 RGB.

        Raises:
            VideoError: when the colours cannot be converted.
        """
        if self._convert is not None:
            self._image, self._convert = self._convert(), None
        assert self._image is not None
        return self._image


Picture = Image | DeferredImage


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """One shown frame: `picture` holds its `image`; `time` and `duration` are in seconds on the file's own clock.

    `duration` is 0 if the file declares neither that of the frame nor a rate. `guessed` is True if the file has no time
    for the frame, and it was placed after the previous one.
    """

    time: Fraction
    duration: Fraction
    picture: Picture
    guessed: bool = False

    @property
    def image(self) -> Image:
        """Return (H, W, 3) uint8 RGB."""
        return image_of(self.picture)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The headers of a file, read before any frame is decoded.

    `width`, `height` are in stored pixels, before the picture is turned upright: mirrored left to right if `mirrored`
    is True, then rotated by `rotation` degrees counter-clockwise (0, 90, 180, 270). `rate` is the average frame rate
    of the chosen stream, None if unknown; with `rate_guessed` it is estimated from the first few frames. `duration`
    is its declared seconds, None if undeclared; with `duration_of_file` only the whole file's is known, in which sound
    may end later than the picture. `stream` is the index of the chosen video stream,
    `video_streams` their number. `edited` is True if an edit list or a discard flag hides frames, `interlaced` if the
    header or the first frame is marked so, `wide_colours` if the first frame uses BT.2020 or an HDR curve, `reordered`
    if frames are decoded in another order than they are shown. `file_start` is the start of the first stream of any
    kind, which players show as second 0; `reassembled` is True if an edit list joins several parts, or plays one at
    another speed.
    """

    path: Path
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    time_base: Fraction
    rate: Fraction | None
    start: Fraction
    duration: Fraction | None
    frames: int | None
    stream: int
    video_streams: int
    edited: bool
    duration_of_file: bool = False
    interlaced: bool = False
    wide_colours: bool = False
    reordered: bool = False
    mirrored: bool = False
    file_start: Fraction | None = None
    reassembled: bool = False
    rate_guessed: bool = False

    @property
    def frame_duration(self) -> Fraction:
        """Seconds per frame at the average rate; 1/25 if the rate is unknown."""
        return 1 / self.rate if self.rate else Fraction(1, 25)

    @property
    def declared_frame_duration(self) -> Fraction:
        """Seconds per frame at the average rate; 0 if the rate is unknown, or guessed."""
        return Fraction(0) if self.rate_guessed else self.frame_duration

    @property
    def declared_end(self) -> Fraction | None:
        """Declared end of the stream in seconds on the file's own clock, None if undeclared."""
        return None if self.duration is None else self.start + self.duration


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """Report on the decoding of a file, complete after the last frame.

    `frames` is N at the target rate; `decoded` counts the source frames; `start` is the container time of second 0;
    `shortfall` the seconds by which the file ended before its declared duration (0 if it did not, or none is declared);
    `begins` the seconds from the file's first sound to second 0 (0 if less than a tenth); `notes` are sentences on
    oddities. `reader` is the leaf that decoded.
    """

    frames: int
    decoded: int
    start: Fraction
    width: int
    height: int
    shortfall: Fraction
    reader: str
    notes: tuple[str, ...] = ()
    begins: Fraction = Fraction(0)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON types; fractions as exact text."""
        begins = {"begins": str(self.begins)} if self.begins else {}
        return begins | {
            "reader": self.reader,
            "decoded_frames": self.decoded,
            "start": str(self.start),
            "width": self.width,
            "height": self.height,
            "shortfall": float(self.shortfall),
            "notes": list(self.notes),
        }


def image_of(picture: Picture) -> Image:
    """Return the image of a picture, (H, W, 3) uint8 RGB."""
    return picture.image if isinstance(picture, DeferredImage) else picture


def upright(image: Image, info: VideoInfo) -> Image:
    """Turn a stored (H, W, 3) picture upright, mirrored and rotated according to the headers."""
    if not (info.rotation or info.mirrored):
        return image
    import cv2  # imported here, so that the types alone do not load it

    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    shown = cv2.flip(image, 1) if info.mirrored else image
    return np.asarray(cv2.rotate(shown, turns[info.rotation]) if info.rotation else shown, dtype=np.uint8)


def upright_shape(width: int, height: int, info: VideoInfo) -> tuple[int, int, int]:
    """Return the shape (H, W, 3) of a stored picture of `width` x `height` pixels after `upright`."""
    return (width, height, 3) if info.rotation % 180 else (height, width, 3)
