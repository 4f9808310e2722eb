"""Pictures to feature vectors: `ImageEncoder`, the description of its input, and creation by name.

The contract of a family's file is `wtal.extractors.image_encoders.EncoderLeaf`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wtal.errors import UsageError
from wtal.extractors.backbone import WeightsSource
from wtal.extractors.image_encoders import ENCODERS, EncoderLeaf
from wtal.extractors.pictures import Pictures
from wtal.registry import suggest


@dataclass(frozen=True)
class Encoding:
    """Input and output of an image encoder: `dim` numbers from a picture prepared by `pictures`, taken at `tap`."""

    dim: int
    pictures: Pictures
    tap: str


class ImageEncoder(nn.Module):
    """A network for pictures, (M, 3, side, side) -> (M, dim), in eval mode.

    `feature` extracts the feature from the network; `identity` (JSON) has everything but the pictures that affects it.
    """

    def __init__(
        self,
        network: nn.Module,
        encoding: Encoding,
        feature: Callable[[Any, Tensor], Tensor],
        identity: dict[str, Any],
    ) -> None:
        super().__init__()
        self.network = network
        self.encoding, self.identity = encoding, identity
        self._feature = feature
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (M, 3, side, side) prepared pictures -> (M, dim)."""
        return self._feature(self.network, pictures)


def create_encoder(name: str, weights: WeightsSource = None) -> ImageEncoder:
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
