"""One localization head per file; `HeadLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    import wtal.config
    from wtal.models.head import Head


class HeadLeaf(Protocol):
    """A module of `heads/`: a head's settings, and the two ways to create it."""

    @property
    def Config(self) -> "type[wtal.config.Config]":
        """The head's own settings, each default with its source."""

    def create(self, num_classes: int, feature_dims: dict[str, int], config: Any, authors: bool) -> "Head":
        """Make a head for C = `num_classes` and stream -> D, freshly initialised.

        `config` is a `Config` of this module. With `authors` it behaves as the authors' code, quirks included.
        """

    def from_authors(self, state_dict: Mapping[str, Any], num_classes: int) -> "Head":
        """Make a head from a state dict with the keys that the authors' own code saves.

        It may accept further settings, each with a default, for what cannot be inferred from the tensors.

        Raises:
            WeightsError: when a key is missing, left over, or of another shape, or the authors published no code.
        """


HEADS = Registry[HeadLeaf]("head", __name__, HeadLeaf)
