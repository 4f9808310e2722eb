"""Pictures to feature vectors: `ImageEncoder`, what one sees, and how one is made by name.

`wtal.extractors.image_encoders.EncoderLeaf` says what a family's file holds.
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
    """Input and output of an image encoder: `dim` numbers of a picture prepared as `pictures` say, taken at `tap`."""

    dim: int
    pictures: Pictures
    tap: str


class ImageEncoder(nn.Module):
    """A network of pictures, (M, 3, side, side) -> (M, dim), in eval mode.

    `feature` takes the feature from the network; `identity` (JSON) has all but the pictures that can change it.
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
        """(M, 3, side, side) prepared -> (M, dim)."""
        return self._feature(self.network, pictures)


def create_encoder(name: str, weights: WeightsSource = None) -> ImageEncoder:
    """The image encoder `name`, of the family that has it or else takes it.

    Raises:
        UsageError: when no family does.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    leaves = [ENCODERS.load(leaf) for leaf in ENCODERS.names()]
    for leaf in [leaf for leaf in leaves if name in leaf.ENCODINGS] or [leaf for leaf in leaves if leaf.OTHERS]:
        return leaf.create(name, weights)
    raise UsageError(f"there is no image encoder {name!r}; {suggest(name, named_encoders())}")


def named_encoders() -> dict[str, EncoderLeaf]:
    """Name -> the family that has it."""
    leaves = [ENCODERS.load(leaf) for leaf in ENCODERS.names()]
    return {name: leaf for leaf in leaves for name in leaf.ENCODINGS}
