"""One family of image encoders per file, for the backbone `frames`. `EncoderLeaf` says what a file holds."""
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
        """Encoders that it has by name, with what each sees and gives, known before any weights are there."""

    @property
    def OTHERS(self) -> str:
        """Which other names it takes, in words; empty where it takes none."""

    @property
    def WEIGHTS(self) -> "Mapping[str, Weights]":
        """Published checkpoints by name, each with its encoder as `variant`; empty where there is none to load."""

    def create(self, name: str, weights: "WeightsSource") -> "ImageEncoder":
        """Make the encoder `name`.

        Raises:
            WeightsError: when the weights are missing, damaged, or do not fit.
        """


ENCODERS = Registry[EncoderLeaf]("encoder", __name__, EncoderLeaf)
