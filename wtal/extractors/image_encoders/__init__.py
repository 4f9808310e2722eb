"""One family of image encoders per file, for the backbone `frames`, and creation by name.

The contract of a file is `EncoderLeaf`.
"""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from wtal.errors import UsageError
from wtal.registry import Registry, suggest

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


def create_encoder(name: str, weights: "WeightsSource" = None) -> "ImageEncoder":
    """Create the image encoder `name`, from the family that lists it or else accepts it.

    Raises:
        UsageError: when no family has it.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    leaves = [ENCODERS.load(leaf) for leaf in ENCODERS.names()]
    for leaf in [leaf for leaf in leaves if name in leaf.ENCODINGS] or [leaf for leaf in leaves if leaf.OTHERS]:
        return leaf.create(name, weights)
    raise UsageError(f"there is no image encoder {name!r}; {suggest(name, named_encoders())}")


def named_encoders() -> dict[str, EncoderLeaf]:
    """Map each name to the family that lists it."""
    leaves = [ENCODERS.load(leaf) for leaf in ENCODERS.names()]
    return {name: leaf for leaf in leaves for name in leaf.ENCODINGS}
