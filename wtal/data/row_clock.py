"""Clocks of the rows of published features: each set has its own rate, and a wrong one moves every segment."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest, shortened
from wtal.data.grid import SnippetGrid
from wtal.data.layout_note import Note
from wtal.data.names import match_id
from wtal.data.object_arrays import read_array, read_shape
from wtal.errors import FormatError, UsageError

_FPS, _TIMES = "_fps", "_timestamps_ms"
_SLOWEST, _FASTEST, _LONGEST = 0.001, 1000, 3600
"""Frames per second, and seconds of a row, that are believed."""
_MOST = 10**6
"""Largest rate, and most frames of a row: beyond all that is published."""


@dataclass(frozen=True)
class RowClock:
    """A clock of rows, in seconds: at a rate, else by the note of the exporter, else spread over the durations."""

    rate: tuple[Fraction, Fraction] | None
    note: Note | None
    durations: Mapping[str, float]

    @classmethod
    def make(
        cls, own: tuple[str, str], note: Note | None, durations: Mapping[str, float], fps: str, stride: str
    ) -> "RowClock":
        """The clock of a set: the user's rate before the exporter's note before the layout's `own` rate.

        Raises:
            UsageError: when a rate is no positive number, or nothing says how long a row is.
        """
        if note and not (fps or stride):
            return cls(None, note, durations)
        rates = fps or own[0], stride or own[1]
        if all(rates):
            return cls((positive("fps", rates[0]), positive("stride", rates[1])), note, durations)
        if any(rates):
            raise UsageError("this layout has no rate of its own: --fps and --stride go together")
        if not durations:
            raise UsageError(
                "rows of this layout are spread over their videos: name --annotations that know the durations, "
                "or --fps and --stride"
            )
        return cls(None, None, durations)

    @property
    def readable(self) -> str:
        """A part of a folder's name."""
        if self.rate:
            return f"{self.rate[1]}x{self.rate[1]}@{self.rate[0]}".replace("/", "-")
        return "exported" if self.note else "spread"

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """All of it that can change a grid, as JSON types."""
        if self.rate:
            return {"fps": str(self.rate[0]), "stride": str(self.rate[1])}
        if self.note:
            return {"grids": digest({name: grid.to_json() for name, (_, grid) in self.note.videos.items()}, 16)}
        return {"durations": digest({name: self.duration(name) for name in names}, 16)}

    def duration(self, name: str) -> float | None:
        """Seconds of a video, None where nobody says."""
        match = match_id(name, self.durations)
        return None if match is None else self.durations[match]

    def coverage(self, name: str, rows: int) -> float | None:
        """Seconds that a video's rows cover at the rate, over those that it lasts; None where nobody says."""
        duration = self.duration(name)
        return float(rows * self.rate[1] / self.rate[0]) / duration if self.rate and duration else None

    def video_id(self, name: str) -> str:
        """The id of a video of the set."""
        return self.note.videos[name][0] if self.note and name in self.note.videos else name

    def grid(self, name: str, rows: int) -> SnippetGrid:
        """The grid of a video with that many rows.

        Raises:
            FormatError: when it has none.
        """
        if self.rate:
            fps, stride = self.rate
            if stride.denominator > 1:  # frames are whole: a row is one
                fps, stride = fps / stride, Fraction(1)
            # The rows are all that is known of a video's length: what they cover, no more.
            return SnippetGrid(fps, int(rows * stride), stride, int(stride), "drop")
        if self.note:
            if name not in self.note.videos:
                raise FormatError("the exporter's note does not know it; export the features again")
            return self.note.videos[name][1]
        duration = self.duration(name)
        if not duration:
            raise FormatError("the annotations do not say how long it is; name --fps and --stride")
        if not rows / _FASTEST <= duration <= rows * _LONGEST:
            raise FormatError(
                f"it is annotated as {duration:.6g} s, which {rows} rows cannot be spread over; mend that"
            )
        return SnippetGrid(rows / Fraction(str(duration)), rows, Fraction(1), 1, "drop")


def positive(what: str, text: str) -> Fraction:
    """A positive number or fraction.

    Raises:
        UsageError: when it is none.
    """
    try:
        value = Fraction(text) if "e" not in text.lower() else Fraction(0)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= _MOST:
        raise UsageError(f"--{what} is a positive number or fraction, {_MOST} at most, got {shortened(text)}")
    return value


@dataclass(frozen=True)
class StatedClock:
    """The clock that an extractor wrote beside a video's rows: `<id>_fps.npy` and `<id>_timestamps_ms.npy`.

    The rate is one number; the times are one per row, in milliseconds: those of the rows' ends, or of their beginnings
    where the first is 0. A row is as long as the rows are apart, and stands in the middle of the frames that it was
    computed on. Either file may be missing. Source: https://github.com/v-iashin/video_features.
    """

    fps: Path | None = None
    times: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are there."""
        return tuple(file for file in (self.fps, self.times) if file)

    def grid(self, rows: int) -> SnippetGrid:
        """The grid of so many rows.

        Raises:
            FormatError: when a file is missing or damaged, the times are not those of the rows, or not evenly apart.
        """
        if self.fps is None or self.times is None:
            lacking = _TIMES if self.times is None else _FPS
            raise FormatError(f"{self.files[0]} has no {lacking} file beside it; name --fps and --stride")
        rate, times = _numbers(self.fps), _numbers(self.times) / 1000
        if len(rate) != 1 or not _SLOWEST <= rate[0] <= _FASTEST:
            raise FormatError(
                f"{self.fps}: wanted a rate of up to {_FASTEST} frames per second; name --fps and --stride"
            )
        if len(times) < max(rows, 2) or len(times) > rows + 1:
            raise FormatError(f"{self.times} has {len(times)} times of {rows} rows; name --fps and --stride")
        with np.errstate(over="ignore", invalid="ignore"):
            apart = float(np.median(np.diff(times)))
            uneven = float(np.abs(times - times[0] - apart * np.arange(len(times))).max())
        if not (0.001 / rate[0] <= apart <= _LONGEST and uneven < apart / 2):
            raise FormatError(f"{self.times}: its times are not evenly apart; name --fps and --stride")
        fps = Fraction(rate[0]).limit_denominator(1001)
        stride, span = _frames(apart, fps), _frames(min(max(times[0], apart), _LONGEST), fps)
        lead = (span - stride) / 2
        if stride.denominator > 1:  # frames are whole: a row is one
            fps, lead, stride = fps / stride, lead / stride, Fraction(1)
        return SnippetGrid(fps, math.ceil(lead + rows * stride), stride, max(1, round(span)), "drop", lead=lead)


def find_clocks(files: Iterable[Path]) -> dict[Path, StatedClock]:
    """Path of a video's files without their last word (`a_rgb.npy` is `a.npy`) -> its clock."""
    clocks: dict[Path, StatedClock] = {}
    for file in files:
        for word in (_FPS, _TIMES):
            name = file.stem.removesuffix(word)
            if name and name != file.stem and _is_list(file):
                video = file.with_name(f"{name}{file.suffix}")
                known = clocks.get(video, StatedClock())
                clocks[video] = StatedClock(file, known.times) if word == _FPS else StatedClock(known.fps, file)
    return clocks


def _is_list(file: Path) -> bool:
    """Tell a number or a list of them, or a damaged file, from rows of a video whose name ends like that."""
    try:
        return len(read_shape(file)[0]) < 2
    except FormatError:
        return True


def _numbers(file: Path) -> NDArray[np.float64]:
    values = read_array(file)
    if values.ndim > 1 or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise FormatError(f"{file}: wanted finite numbers, got an array {values.shape} of {values.dtype}")
    return np.atleast_1d(values).astype(np.float64)


def _frames(seconds: float, fps: Fraction) -> Fraction:
    """Frames in some seconds; whole where times in milliseconds allow it."""
    frames = Fraction(seconds) * fps
    whole = Fraction(round(frames))
    return whole if whole and abs(whole - frames) <= Fraction(1, 50) else frames.limit_denominator(1000)
