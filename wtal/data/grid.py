"""The one clock: frames, snippets and seconds meet here and nowhere else."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtal.config import Record, shortened
from wtal.data.segments import Segment
from wtal.errors import ConfigError, FormatError

TailPolicy = Literal["pad", "drop"]

_EXACT = 2**53
"""Floats hold every whole number below."""
Count = Annotated[int, Field(ge=1, lt=_EXACT)]
Ratio = Annotated[str, Field(pattern=r"^-?[0-9]{1,80}(/[1-9][0-9]{0,79})?$")]
"""A fraction as Python writes it, of no more digits than products of floats have."""


def frame_count(fps: Fraction, shown_seconds: Fraction) -> int:
    """Frames at rate `fps` in a video that is shown for `shown_seconds`: at least one."""
    return max(1, round(fps * shown_seconds))


class _Plain(Record):
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
    """Snippets every `stride` frames, each seeing `span` frames, over `frames` frames at `fps` frames per second.

    The first shown frame is at second `begins`: 0, unless seconds are those of a file whose sound begins before the
    picture. Snippet i stands for the frames [lead + i * stride, lead + (i + 1) * stride); the window of
    `span` frames that its feature was computed on is centred on them. With `tail="pad"` there are
    ceil((frames - lead) / stride) snippets and the last is filled with its last frame; with `tail="drop"` there are
    (frames - lead) // stride, as in the papers. A video shorter than one stride has one snippet under `pad` and none
    under `drop`.

    `lead` is 0 where the first window reaches beyond the first frame, as in extraction; windows of others, which begin
    with the first frame and overlap, stand further in. It and `stride` may be fractional: a store of published features
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
            raise ValueError(f"a grid needs positive fps, frames, stride and span, and no negative lead, got {self}")
        if self.tail not in ("pad", "drop"):
            raise ValueError(f"tail is 'pad' or 'drop', got {self.tail!r}")

    @property
    def num_snippets(self) -> int:
        """T: snippets on this grid."""
        count = max(Fraction(0), self.frames - self.lead) / self.stride
        return math.ceil(count) if self.tail == "pad" else math.floor(count)

    @property
    def period(self) -> Fraction:
        """Seconds from one snippet to the next."""
        return self.stride / self.fps

    @property
    def duration(self) -> float:
        """Seconds that the frames cover."""
        return float(self.frames / self.fps)

    @property
    def end(self) -> float:
        """Second at which the last frame ends."""
        return float(self.begins + self.frames / self.fps)

    def to_segment(self, first: int, last: int, scale: int = 1) -> Segment:
        """Snippets first..last, both included, as seconds; the end never runs past the last frame.

        With `scale` > 1 the indices count on a grid that is `scale` times finer, as upsampled activations do.
        """
        return Segment(self._second(first, scale), self._second(last + 1, scale))

    def seconds(self, positions: NDArray[np.int64], scale: int = 1) -> NDArray[np.float64]:
        """(N,) borders, counted in snippets (finer by `scale`) -> (N,) seconds, cut at the last frame's end.

        The vectorised form of `to_segment`: a run first..last has the borders first and last + 1.
        """
        step, lead, end = self.period / scale, self.lead / self.fps, Fraction(self.frames) / self.fps
        parts = math.lcm(step.denominator, lead.denominator, end.denominator, self.begins.denominator)
        each, first, most, before = (int(seconds * parts) for seconds in (step, lead, end, self.begins))
        if max(int(positions.max(initial=0)) * each + first, most + abs(before), parts) >= _EXACT:
            return np.array([self._second(int(position), scale) for position in positions], dtype=np.float64)
        # The quotient of two whole numbers that floats hold exactly is the nearest float, as that of a fraction is.
        seconds: NDArray[np.float64] = (np.clip(positions * each + first, first, most) + before) / parts
        return seconds

    def centers(self) -> NDArray[np.float64]:
        """(T,) seconds of the snippets' middles."""
        middles = (self.lead + Fraction(2 * i + 1, 2) * self.stride for i in range(self.num_snippets))
        return np.array([float(self.begins + middle / self.fps) for middle in middles])

    def mask(self, segments: list[Segment]) -> NDArray[np.bool_]:
        """(T,) True where a snippet's middle lies in one of `segments`."""
        centers = self.centers()
        result = np.zeros(len(centers), dtype=bool)
        for segment in segments:
            result |= (centers >= segment.start) & (centers < segment.end)
        return result

    def window(self, index: int) -> range:
        """Frame numbers that snippet `index` sees; they may leave 0..frames-1, where the border frame stands in."""
        start = math.floor(self.lead + index * self.stride) + math.floor((self.stride - self.span) / 2)
        return range(start, start + self.span)

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON types, exact; `from_json` rebuilds an equal grid."""
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
        """The grid that `to_json` described.

        Raises:
            FormatError: when a value is missing or is not a number.
        """
        try:
            plain = _Plain.parse(values)
            fps, stride, begins, lead = map(Fraction, (plain.fps, plain.stride, plain.begins, plain.lead))
            return cls(fps, plain.frames, stride, plain.span, plain.tail, begins, lead)
        except (ConfigError, ValueError) as error:
            raise FormatError(f"not a snippet grid: {shortened(values)} ({error})") from None

    def _second(self, position: int, scale: int) -> float:
        frame = min(self.lead + max(position, 0) * self.stride / scale, Fraction(self.frames))
        return float(self.begins + frame / self.fps)
