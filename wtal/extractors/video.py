"""What a reader says about a file, and what it yields: the contract of `readers/`.

A leaf of `readers/` holds `version() -> str` (of the library that decodes), `why_not() -> str | None` (None where it
can be used here, else the reason in a few words) and `frames(info) -> Iterator[TimedFrame]`, sequential, in shown
order, upright (rotation applied), at native size. It raises `VideoError` when the file cannot be read at all, and
`VideoBroken` when decoding breaks after some frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.errors import VideoError
from wtal.registry import READERS

Image = NDArray[np.uint8]


class VideoBroken(VideoError):
    """Decoding broke after some frames: what came before is good and is used."""


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """One shown frame: `image` (H, W, 3) uint8 RGB; `time` and `duration` in seconds on the file's own clock."""

    time: Fraction
    duration: Fraction
    image: Image


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the headers of a file say, before any frame is decoded.

    `width`, `height` are in stored pixels, before `rotation` (degrees counter-clockwise that the picture must be
    turned by to stand upright: 0, 90, 180, 270). `rate` is the average frame rate and `duration` the declared seconds
    of the chosen stream, None where the header does not say. `stream` is the index of the chosen video stream,
    `video_streams` how many there are. `edited` is True where an edit list or a discard flag hides frames.
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


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """What decoding found, known once the last frame has come.

    `frames` is N at the target rate; `decoded` counts the source frames; `start` is the container time of second 0;
    `shortfall` the seconds by which the file ended before its declared duration (0 where it did not, or where none
    is declared); `notes` are sentences on what was odd. `reader` is the leaf that decoded and `why` the rule that
    chose it.
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

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON types; fractions as text, exact."""
        return {
            "reader": self.reader,
            "why": self.why,
            "decoded_frames": self.decoded,
            "start": str(self.start),
            "width": self.width,
            "height": self.height,
            "shortfall": float(self.shortfall),
            "notes": list(self.notes),
        }


def load_reader(name: str) -> ModuleType:
    """The leaf `name` of `readers/`.

    Raises:
        UsageError: when there is no such reader.
        VideoError: when it cannot be used on this machine; the message says why.
    """
    module = READERS.load(name)
    if (reason := module.why_not()) is not None:
        raise VideoError(f"reader {name} cannot be used here: {reason}")
    return module


def read(info: VideoInfo, reader: str) -> Iterator[TimedFrame]:
    """Frames of the file with one reader, by name."""
    frames: Iterator[TimedFrame] = load_reader(reader).frames(info)
    return frames
