"""Settings of extraction; separate from the extractor, so that help texts need no torch."""

from fractions import Fraction
from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from wtal.config import Config
from wtal.data.grid import TailPolicy
from wtal.errors import ConfigError
from wtal.extractors.decoding.reader import REFERENCE
from wtal.refusals import shortened

_FASTEST = 1000
"""Maximum frames per second, that of the fastest cameras in any collection; more would only repeat frames."""
_DIGITS = 40


class ExtractConfig(Config):
    """Settings that turn snippets into features."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    backbone: str = "motion-pyramid"
    """Backbone, one of `wtal list backbones`."""
    streams: tuple[str, ...] = ()
    """Streams, rgb or flow or both; if empty, all streams of the backbone."""
    flow: str = ""
    """Optical flow method, one of `wtal list flows`; if empty, the backbone's default."""
    reader: str = REFERENCE
    """Reader, one of `wtal list readers`."""
    fps: str = "25"
    """Frames per second to which videos are resampled, as a number or a fraction."""
    stride: int = Field(0, ge=0)
    """Frames from one snippet to the next; 0 takes the backbone's default."""
    tail: TailPolicy = "pad"
    """Frames after the last full snippet: padded with the last frame, or dropped as in the papers."""
    zero: Literal["file", "picture"] = "file"
    """Start of time if sound begins before the picture: the file's, as in players, or the picture's."""
    runtime: Literal["torch", "openvino"] = "torch"
    """Library that runs a network; openvino, an optional extra, is faster on a CPU."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of network arithmetic (torch only); see --dtype for that of the stored features."""
    crops: Literal[1, 10] = 1
    """Crops per frame: the centre, or ten whose features are averaged."""
    dtype: Literal["float32", "float16"] = "float32"
    """Data type of the stored features."""

    @field_validator("fps", mode="before")
    @classmethod
    def _numeric(cls, fps: object) -> object:
        if isinstance(fps, bool) or not isinstance(fps, str | int | float):
            raise ConfigError(f"extract.fps: wanted a number or a fraction, got {shortened(fps)}")
        return fps

    @field_validator("fps")
    @classmethod
    def _positive(cls, fps: str) -> str:
        try:
            rate = Fraction(fps) if "e" not in fps.lower() and len(fps) < _DIGITS else Fraction(0)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= _FASTEST:
            raise ConfigError(
                f"extract.fps: wanted a number or fraction above 0 and at most {_FASTEST}, such as 25 or 30000/1001, "
                f"got {shortened(fps)}"
            )
        return fps

    @property
    def rate(self) -> Fraction:
        """`fps` as a number."""
        return Fraction(self.fps)
