"""Clocks of the rows of published features: each set has its own rate, and a wrong one moves every segment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wtal.config import digest, shortened
from wtal.data.grid import SnippetGrid
from wtal.data.layout_note import Note
from wtal.data.names import match_id
from wtal.errors import FormatError, UsageError

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

    def covered(self, rows: Mapping[str, int]) -> tuple[float, float]:
        """Seconds that the rows of some videos cover at the rate, and seconds that these videos last."""
        fps, stride = self.rate or (Fraction(1), Fraction(0))
        return float(sum(rows.values()) * stride / fps), sum(self.duration(name) or 0.0 for name in rows)

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
