"""Pictures to feature vectors: `ImageEncoder`, and the description of its input.

`wtal.extractors.image_encoders` has the contract of a family's file, and creates encoders by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wtal.extractors.pictures import Pictures


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
