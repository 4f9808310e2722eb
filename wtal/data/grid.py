"""The snippet clock: the only place that converts between frames, snippets and seconds."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtal.config import Record
from wtal.data.segments import Segment
from wtal.errors import ConfigError, FormatError
from wtal.refusals import shortened

TailPolicy = Literal["pad", "drop"]

_EXACT = 2**53
"""Floats represent every whole number below this."""
Count = Annotated[int, Field(ge=1, lt=_EXACT)]
Ratio = Annotated[
    str, Field(pattern=r"^-?[0-9]{1,80}(/[1-9][0-9]{0,79})?$", description="a fraction such as 25 or 30000/1001")
]
"""A fraction in Python's notation, with at most as many digits as products of floats."""


def frame_count(fps: Fraction, shown_seconds: Fraction) -> int:
    """Return the number of frames at rate `fps` in a video of `shown_seconds`: at least one."""
    return max(1, round(fps * shown_seconds))


class _GridRecord(Record):
    """JSON form of a grid."""

    fps: Ratio
    frames: Count
    stride: Ratio
    span: Count
    tail: TailPolicy
    begins: Ratio = "0"
    lead: Ratio = "0"


@dataclass(frozen=True, slots=True)
class SnippetGrid:
    """Snippets every `stride` frames, each covering `span` frames, over `frames` frames at `fps` frames per second.

    The first frame is at second `begins`: 0, unless seconds are those of a file whose sound begins before the picture.
    Snippet i represents the frames [lead + i * stride, lead + (i + 1) * stride); the window of `span` frames from which
    its feature was computed is centred on them. With `tail="pad"` there are ceil((frames - lead) / stride) snippets and
    the last is padded with its last frame; with `tail="drop"` there are (frames - lead) // stride, as in the papers. A
    video shorter than one stride has one snippet under `pad` and none under `drop`.

    `lead` is 0 if the first window extends beyond the first frame, as in extraction; published windows that begin with
    the first frame and overlap have a positive lead. It and `stride` may be fractional: a store of published features
    counts in its own frames.

    Raises:
        ValueError: when fps, stride, span or frames is not positive, or lead is negative.
    """

    fps: Fraction
    frames: int
    stride: Fraction
    span: int
    tail: TailPolicy = "pad"
    begins: Fraction = Fraction(0)
    lead: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", Fraction(self.fps))
        object.__setattr__(self, "stride", Fraction(self.stride))
        object.__setattr__(self, "begins", Fraction(self.begins))
        object.__setattr__(self, "lead", Fraction(self.lead))
        if self.fps <= 0 or self.frames < 1 or self.stride <= 0 or self.span < 1 or self.lead < 0:
            raise ValueError(
                f"a grid needs positive fps, frames, stride and span, and a lead of at least 0, got {self}"
            )
        if self.tail not in ("pad", "drop"):
            raise ValueError(f"tail is 'pad' or 'drop', got {self.tail!r}")

    @property
    def num_snippets(self) -> int:
        """T, the number of snippets on this grid."""
        count = max(Fraction(0), self.frames - self.lead) / self.stride
        return math.ceil(count) if self.tail == "pad" else math.floor(count)

    @property
    def period(self) -> Fraction:
        """Seconds from one snippet to the next."""
        return self.stride / self.fps

    @property
    def duration(self) -> float:
        """Seconds covered by the frames."""
        return float(self.frames / self.fps)

    @property
    def end(self) -> float:
        """End of the last frame, in seconds."""
        return float(self.begins + self.frames / self.fps)

    def to_segment(self, first: int, last: int, scale: int = 1) -> Segment:
        """Convert snippets first..last, both included, to seconds; the end is at most that of the last frame.

        With `scale` > 1 the indices are on a grid `scale` times finer, like those of upsampled activations.
        """
        return Segment(self._second(first, scale), self._second(last + 1, scale))

    def seconds(self, positions: NDArray[np.int64], scale: int = 1) -> NDArray[np.float64]:
        """(N,) borders in snippets (finer by `scale`) -> (N,) seconds, at most the last frame's end.

        The vectorized form of `to_segment`: a run first..last has the borders first and last + 1.
        """
        step, lead, end = self.period / scale, self.lead / self.fps, Fraction(self.frames) / self.fps
        parts = math.lcm(step.denominator, lead.denominator, end.denominator, self.begins.denominator)
        each, first, most, before = (int(seconds * parts) for seconds in (step, lead, end, self.begins))
        if max(int(positions.max(initial=0)) * each + first, most + abs(before), parts) >= _EXACT:
            return np.array([self._second(int(position), scale) for position in positions], dtype=np.float64)
        # Dividing two whole numbers that floats represent exactly gives the nearest float, as for a fraction.
        seconds: NDArray[np.float64] = (np.clip(positions * each + first, first, most) + before) / parts
        return seconds

    def centers(self) -> NDArray[np.float64]:
        """Return the seconds (T,) of the snippets' middles."""
        middles = (self.lead + Fraction(2 * i + 1, 2) * self.stride for i in range(self.num_snippets))
        return np.array([float(self.begins + middle / self.fps) for middle in middles])

    def mask(self, segments: list[Segment]) -> NDArray[np.bool_]:
        """Return a mask (T,) of the snippets whose middle is in one of `segments`."""
        centers = self.centers()
        result = np.zeros(len(centers), dtype=bool)
        for segment in segments:
            result |= (centers >= segment.start) & (centers < segment.end)
        return result

    def window(self, index: int) -> range:
        """Return the frame numbers of snippet `index`; beyond 0..frames-1 the border frame is repeated."""
        start = math.floor(self.lead + index * self.stride) + math.floor((self.stride - self.span) / 2)
        return range(start, start + self.span)

    def to_json(self) -> dict[str, Any]:
        """Convert the grid to JSON types, exactly; `from_json` restores an equal grid."""
        return {
            "fps": str(self.fps),
            "frames": self.frames,
            "stride": str(self.stride),
            "span": self.span,
            "tail": self.tail,
            **({"begins": str(self.begins)} if self.begins else {}),
            **({"lead": str(self.lead)} if self.lead else {}),
        }

    @classmethod
    def from_json(cls, values: object) -> "SnippetGrid":
        """Restore a grid from the result of `to_json`.

        Raises:
            FormatError: when a value is missing or is not a number.
        """
        try:
            plain = _GridRecord.parse(values)
            fps, stride, begins, lead = map(Fraction, (plain.fps, plain.stride, plain.begins, plain.lead))
            return cls(fps, plain.frames, stride, plain.span, plain.tail, begins, lead)
        except (ConfigError, ValueError) as error:
            raise FormatError(f"not a snippet grid: {shortened(values)} ({error})") from None

    def _second(self, position: int, scale: int) -> float:
        frame = min(self.lead + max(position, 0) * self.stride / scale, Fraction(self.frames))
        return float(self.begins + frame / self.fps)
