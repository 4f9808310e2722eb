"""One family of image encoders per file, for the backbone `frames`. The contract of a file is `EncoderLeaf`."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.backbone import WeightsSource
    from wtal.extractors.image_encoder import Encoding, ImageEncoder
    from wtal.extractors.weights import Weights


class EncoderLeaf(Protocol):
    """A module of `image_encoders/`."""

    @property
    def ENCODINGS(self) -> "Mapping[str, Encoding]":
        """Encoders by name, with the input and output of each, available without any weights."""

    @property
    def OTHERS(self) -> str:
        """Description of other accepted names; empty if there are none."""

    @property
    def WEIGHTS(self) -> "Mapping[str, Weights]":
        """Published checkpoints by name, each with its encoder as `variant`; empty if there is none to load."""

    def create(self, name: str, weights: "WeightsSource") -> "ImageEncoder":
        """Create the encoder `name`.

        Raises:
            WeightsError: when the weights are missing, damaged, or do not fit.
        """


ENCODERS = Registry[EncoderLeaf]("encoder", __name__, EncoderLeaf)
