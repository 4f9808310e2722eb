"""One network that rescores proposals per file; `RescorerLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    import wtal.config
    from wtal.models.rescorer import Rescorer


class RescorerLeaf(Protocol):
    """A module of `rescorers/`: a rescorer's settings, and the two ways to create it."""

    @property
    def Config(self) -> "type[wtal.config.Config]":
        """The rescorer's own settings, each default with its source."""

    def create(self, num_classes: int, feature_dims: dict[str, int], config: Any, authors: bool) -> "Rescorer":
        """Make a rescorer for C = `num_classes` and streams of the given widths, freshly initialised.

        `config` is a `Config` of this module. With `authors` it behaves as the authors' code, quirks included.
        """

    def from_authors(self, state_dict: Mapping[str, Any], num_classes: int) -> "Rescorer":
        """Make a rescorer from a state dict with the keys that the authors' own code saves.

        Raises:
            WeightsError: when a key is missing, left over, or of another shape.
        """


RESCORERS = Registry[RescorerLeaf]("rescorer", __name__, RescorerLeaf)
