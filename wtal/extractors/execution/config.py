"""Settings of extraction; apart from the extractor, so that help texts need no torch."""

from fractions import Fraction
from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from wtal.config import Config, shortened
from wtal.data.grid import TailPolicy
from wtal.errors import ConfigError
from wtal.extractors.decoding.reader import REFERENCE

_FASTEST = 1000
"""Frames per second of the quickest camera that anybody has a collection of; more would only repeat frames."""
_DIGITS = 40


class ExtractConfig(Config):
    """Settings by which snippets become features."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    backbone: str = "motion-pyramid"
    """A backbone of `wtal list backbones`."""
    streams: tuple[str, ...] = ()
    """rgb, flow; empty takes all that the backbone has."""
    flow: str = ""
    """An optical flow method of `wtal list flows`; empty takes the backbone's own."""
    reader: str = REFERENCE
    """A reader of `wtal list readers`."""
    fps: str = "25"
    """Frames per second that videos are resampled to, as a number or a fraction."""
    stride: int = Field(0, ge=0)
    """Frames from one snippet to the next; 0 takes the backbone's own."""
    tail: TailPolicy = "pad"
    """Frames after the last full snippet: filled up with the last frame, or dropped as the papers do."""
    zero: Literal["file", "picture"] = "file"
    """Second 0 where sound begins before the picture: that of the file, as in players, or of the picture."""
    runtime: Literal["torch", "openvino"] = "torch"
    """What runs a network; openvino is the quicker on a CPU, and an extra."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of a network's arithmetic, by torch; see --dtype for that of the stored features."""
    crops: Literal[1, 10] = 1
    """Pictures cut out of a frame: the centre, or ten whose features are averaged."""
    dtype: Literal["float32", "float16"] = "float32"
    """Data type of the stored features."""

    @field_validator("fps")
    @classmethod
    def _positive(cls, fps: str) -> str:
        try:
            rate = Fraction(fps) if "e" not in fps.lower() and len(fps) < _DIGITS else Fraction(0)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= _FASTEST:
            raise ConfigError(
                f"extract.fps is a positive number or fraction, {_FASTEST} at most, such as 25 or 30000/1001, got "
                f"{shortened(fps)}"
            )
        return fps

    @property
    def rate(self) -> Fraction:
        """`fps` as a number."""
        return Fraction(self.fps)
