"""Types that readers deal in: headers, images, a summary; `wtal.extractors.readers.ReaderLeaf` is the contract."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.errors import UsageError, VideoError
from wtal.extractors.readers import READERS, HasVariants, ReaderLeaf
from wtal.registry import suggest

Image = NDArray[np.uint8]
TIME_LIMIT = 60.0
"""Seconds that a reader may take for its next frame, unless other settings are made."""


class VideoBroken(VideoError):  # noqa: N818 - the name says what happened
    """Parts of the file could not be decoded: the frames that came before this error are good and are used."""


class ReaderFailed(VideoError):  # noqa: N818 - the name says what happened
    """The reader that `auto` chose failed on a file that it should be right on.

    Frames that it gave are not to be used: start the video again with the reference reader, `pyav`, and hand the
    message on as the reason for it.
    """


class DeferredImage:
    """A decoded picture of `shape` (H, W, 3) whose colours are converted when they are first asked for, and then kept.

    Resampling drops frames, and those need no colours.
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
        """(H, W, 3) uint8 RGB.

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
    """One shown frame: `picture` holds its `image`; `time` and `duration` in seconds on the file's own clock.

    `guessed` is True where the file gives the frame no time, and it was put behind the frame before it.
    """

    time: Fraction
    duration: Fraction
    picture: Picture
    guessed: bool = False

    @property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        return image_of(self.picture)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The headers of a file, read before any frame is decoded.

    `width`, `height` are in stored pixels, before the picture is made to stand upright: mirrored left to right where
    `mirrored` is True, then turned by `rotation` degrees counter-clockwise (0, 90, 180, 270). `rate` is the average
    frame rate and `duration` the declared seconds of the chosen stream, None where the header does not say; with
    `duration_of_file` only the whole file's is known, in which sound may end later than the picture. `stream` is the
    index of the chosen video stream, `video_streams` how many there are. `edited` is True where an edit list or a
    discard flag hides frames, `interlaced` where the header or the first frame says so, `wide_colours` where the first
    frame is of BT.2020 or of a curve of HDR, `reordered` where frames are decoded in another order than they are shown
    in. `file_start` is where the first stream of any kind begins, which players show as second 0; `reassembled` is True
    where an edit list joins several parts, or shows one at another speed.
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

    @property
    def frame_duration(self) -> Fraction:
        """Seconds that one frame is shown for by the average rate; 1/25 where the header names no rate."""
        return 1 / self.rate if self.rate else Fraction(1, 25)

    @property
    def declared_end(self) -> Fraction | None:
        """Second on the file's own clock at which the stream should end, None where the header does not say."""
        return None if self.duration is None else self.start + self.duration


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """A report on the decoding of a file, complete once the last frame has come.

    `frames` is N at the target rate; `decoded` counts the source frames; `start` is the container time of second 0;
    `shortfall` the seconds by which the file ended before its declared duration (0 where it did not, or where none is
    declared); `begins` the seconds from the file's first sound to second 0 (0 where less than a tenth); `notes` are
    sentences on oddities. `reader` is the leaf that decoded and `why` the rule that chose it.
    """

    frames: int
    decoded: int
    start: Fraction
    width: int
    height: int
    shortfall: Fraction
    reader: str
    why: str
    notes: tuple[str, ...] = ()
    begins: Fraction = Fraction(0)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON types; fractions as text, exact."""
        begins = {"begins": str(self.begins)} if self.begins else {}
        return begins | {
            "reader": self.reader,
            "why": self.why,
            "decoded_frames": self.decoded,
            "start": str(self.start),
            "width": self.width,
            "height": self.height,
            "shortfall": float(self.shortfall),
            "notes": list(self.notes),
        }


def image_of(picture: Picture) -> Image:
    """The image that a picture holds, (H, W, 3) uint8 RGB."""
    return picture.image if isinstance(picture, DeferredImage) else picture


def upright(image: Image, info: VideoInfo) -> Image:
    """(H, W, 3) stored picture -> the same as it is to be shown, mirrored and turned as the headers say."""
    if not (info.rotation or info.mirrored):
        return image
    import cv2  # here, so that whoever needs the types alone does not load it

    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    shown = cv2.flip(image, 1) if info.mirrored else image
    return np.asarray(cv2.rotate(shown, turns[info.rotation]) if info.rotation else shown, dtype=np.uint8)


def upright_shape(width: int, height: int, info: VideoInfo) -> tuple[int, int, int]:
    """The shape (H, W, 3) that `upright` gives a stored picture of so many pixels."""
    return (width, height, 3) if info.rotation % 180 else (height, width, 3)


def reader_names() -> list[str]:
    """Names of all readers; those behind a colon follow the leaf that they are of."""
    names = []
    for name in READERS.names():
        module = READERS.load(name)
        variants = sorted(module.VARIANTS) if isinstance(module, HasVariants) else []
        names += [name, *(f"{name}:{variant}" for variant in variants)]
    return names


def find_reader(name: str) -> ReaderLeaf:
    """The reader of a name, `leaf` or `leaf:variant`, whether it can be used on this machine or not.

    Raises:
        UsageError: when there is no such reader.
    """
    module = READERS.load(name)
    _, colon, variant = name.partition(":")
    if not colon:
        return module
    if not isinstance(module, HasVariants) or variant not in module.VARIANTS:
        raise UsageError(f"there is no reader {name!r}; {suggest(name, reader_names())}")
    return module.VARIANTS[variant]


def load_reader(name: str) -> ReaderLeaf:
    """The reader `name`.

    Raises:
        UsageError: when there is no such reader.
        VideoError: when it cannot be used on this machine; the message says why.
    """
    reader = find_reader(name)
    if (reason := reader.why_not()) is not None:
        raise VideoError(f"reader {name} cannot be used here: {reason}")
    return reader


def read(info: VideoInfo, reader: str) -> Iterator[TimedFrame]:
    """Frames of the file with one reader, by name."""
    return load_reader(reader).frames(info)
