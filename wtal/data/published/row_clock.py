"""Clocks of the rows of published features: each set has its own rate, and a wrong one shifts every segment."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.grid import SnippetGrid
from wtal.data.names import match_id
from wtal.data.parsing.object_arrays import read_array, read_shape
from wtal.data.published.layout_note import Note
from wtal.errors import FormatError, UsageError
from wtal.refusals import shortened

_FPS, _TIMES = "_fps", "_timestamps_ms"
_SLOWEST, _FASTEST, _LONGEST = 0.001, 1000, 3600
"""Plausible limits: frames per second, lowest and highest, and seconds per row."""
_MOST = 10**6
"""Largest rate, and most frames per row: beyond all published sets."""


@dataclass(frozen=True)
class RowClock:
    """Clock of the rows, in seconds: by a rate, else by the exporter's note, else spread over the durations."""

    rate: tuple[Fraction, Fraction] | None
    note: Note | None
    durations: Mapping[str, float]

    @classmethod
    def make(
        cls, own: tuple[str, str], note: Note | None, durations: Mapping[str, float], fps: str, stride: str
    ) -> "RowClock":
        """Create the clock of a set: from the user's rate, else the exporter's note, else the layout's `own` rate.

        Raises:
            UsageError: when a rate is not a positive number, or the length of a row is unknown.
        """
        if note and not (fps or stride):
            return cls(None, note, durations)
        rates = fps or own[0], stride or own[1]
        if all(rates):
            return cls((positive("fps", rates[0]), positive("stride", rates[1])), note, durations)
        if any(rates):
            raise UsageError("this layout has no default rate: give both --fps and --stride")
        if not durations:
            raise UsageError(
                "rows of this layout are spread over their videos: give --annotations with durations, "
                "or --fps and --stride"
            )
        return cls(None, None, durations)

    @property
    def readable(self) -> str:
        """Description for a folder's name."""
        if self.rate:
            return f"{self.rate[1]}x{self.rate[1]}@{self.rate[0]}".replace("/", "-")
        return "exported" if self.note else "spread"

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Everything that can change a grid, as JSON types."""
        if self.rate:
            return {"fps": str(self.rate[0]), "stride": str(self.rate[1])}
        if self.note:
            return {"grids": digest({name: grid.to_json() for name, (_, grid) in self.note.videos.items()}, 16)}
        return {"durations": digest({name: self.duration(name) for name in names}, 16)}

    def duration(self, name: str) -> float | None:
        """Return the seconds of a video, None if unknown."""
        match = match_id(name, self.durations)
        return None if match is None else self.durations[match]

    def coverage(self, name: str, rows: int) -> float | None:
        """Return the share of a video's duration that its rows cover at the rate; None if unknown."""
        duration = self.duration(name)
        return float(rows * self.rate[1] / self.rate[0]) / duration if self.rate and duration else None

    def video_id(self, name: str) -> str:
        """Return the id of a video of the set."""
        return self.note.videos[name][0] if self.note and name in self.note.videos else name

    def grid(self, name: str, rows: int) -> SnippetGrid:
        """Return the grid of a video with `rows` rows.

        Raises:
            FormatError: when it has none.
        """
        if self.rate:
            fps, stride = self.rate
            if stride.denominator > 1:  # frames are whole: let a row be one
                fps, stride = fps / stride, Fraction(1)
            # The rows are all that is known of a video's length: it is what they cover.
            return SnippetGrid(fps, int(rows * stride), stride, int(stride), "drop")
        if self.note:
            if name not in self.note.videos:
                raise FormatError("it is not in the exporter's note; export the features again")
            return self.note.videos[name][1]
        duration = self.duration(name)
        if not duration:
            raise FormatError("its duration is not in the annotations; give --fps and --stride")
        if not rows / _FASTEST <= duration <= rows * _LONGEST:
            raise FormatError(
                f"it is annotated as {duration:.6g} s, over which {rows} rows cannot be spread; correct the duration"
            )
        return SnippetGrid(rows / Fraction(str(duration)), rows, Fraction(1), 1, "drop")


def positive(what: str, text: str) -> Fraction:
    """Parse a positive number or fraction.

    Raises:
        UsageError: when it is not one.
    """
    try:
        value = Fraction(text) if "e" not in text.lower() else Fraction(0)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= _MOST:
        raise UsageError(f"--{what} takes a number or fraction above 0 and at most {_MOST}, got {shortened(text)}")
    return value


@dataclass(frozen=True)
class StatedClock:
    """Clock written by an extractor next to a video's rows: `<id>_fps.npy` and `<id>_timestamps_ms.npy`.

    The rate is one number; the times are one per row, in milliseconds: those of the rows' ends, or of their beginnings
    if the first is 0. A row is as long as the distance between rows, and is centred on the frames from which it was
    computed. Either file may be missing. Source: https://github.com/v-iashin/video_features.
    """

    fps: Path | None = None
    times: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Existing files of the clock."""
        return tuple(file for file in (self.fps, self.times) if file)

    def grid(self, rows: int) -> SnippetGrid:
        """Return the grid of `rows` rows.

        Raises:
            FormatError: when a file is missing or damaged, or the times do not match the rows or are not evenly spaced.
        """
        if self.fps is None or self.times is None:
            lacking = _TIMES if self.times is None else _FPS
            raise FormatError(f"{self.files[0]} has no {lacking} file next to it; give --fps and --stride")
        rate, times = _numbers(self.fps), _numbers(self.times) / 1000
        if len(rate) != 1 or not _SLOWEST <= rate[0] <= _FASTEST:
            raise FormatError(
                f"{self.fps}: wanted a rate of up to {_FASTEST} frames per second; give --fps and --stride"
            )
        if len(times) < max(rows, 2) or len(times) > rows + 1:
            raise FormatError(f"{self.times} has {len(times)} times for {rows} rows; give --fps and --stride")
        with np.errstate(over="ignore", invalid="ignore"):
            step = float(np.median(np.diff(times)))
            uneven = float(np.abs(times - times[0] - step * np.arange(len(times))).max())
        if not (0.001 / rate[0] <= step <= _LONGEST and uneven < step / 2):
            raise FormatError(f"{self.times}: its times are not evenly spaced; give --fps and --stride")
        fps = Fraction(rate[0]).limit_denominator(1001)
        stride, span = _frames(step, fps), _frames(min(max(times[0], step), _LONGEST), fps)
        lead = (span - stride) / 2
        if stride.denominator > 1:  # frames are whole: let a row be one
            fps, lead, stride = fps / stride, lead / stride, Fraction(1)
        return SnippetGrid(fps, math.ceil(lead + rows * stride), stride, max(1, round(span)), "drop", lead=lead)


def find_clocks(files: Iterable[Path]) -> dict[Path, StatedClock]:
    """Map the path of a video's files, without their last word (`a.npy` for `a_rgb.npy`), to its clock."""
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
    """Return True for a number, a list of numbers or a damaged file, not for rows of a video with such a name."""
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
    """Convert seconds to frames; whole if the precision of milliseconds allows it."""
    frames = Fraction(seconds) * fps
    whole = Fraction(round(frames))
    return whole if whole and abs(whole - frames) <= Fraction(1, 50) else frames.limit_denominator(1000)
