"""One network that rescores proposals per file, and creation by name; `RescorerLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.errors import UsageError
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
        """Make a rescorer for C = `num_classes` and streams of the given widths, freshly initialized.

        `config` is a `Config` of this module. With `authors` it behaves as the authors' code, quirks included.
        """

    def from_authors(self, state_dict: Mapping[str, Any], num_classes: int) -> "Rescorer":
        """Make a rescorer from a state dict with the keys that the authors' own code saves.

        Raises:
            WeightsError: when a key is missing, left over, or of another shape.
        """


RESCORERS = Registry[RescorerLeaf]("rescorer", __name__, RescorerLeaf)


def create_rescorer(
    name: str, num_classes: int, feature_dims: Mapping[str, int], *, authors: bool = False, **config: Any
) -> "Rescorer":
    """Create the rescorer `name` for C = `num_classes` and streams of the given widths, freshly initialized.

    With `authors` it behaves as the authors' code, quirks included. `config` holds the rescorer's own settings.

    Raises:
        UsageError: when there is no such rescorer, no class, or no stream of features.
        ConfigError: when a setting is unknown or invalid.
    """
    module = RESCORERS.load(name)
    if num_classes < 1 or not feature_dims or min(feature_dims.values()) < 1:
        raise UsageError(
            f"a rescorer needs at least one class and stream of features, got {num_classes} and {dict(feature_dims)}"
        )
    return module.create(num_classes, dict(feature_dims), module.Config.parse(config, f"rescorer {name}"), authors)


def load_author_rescorer(name: str, state_dict: Mapping[str, Any], num_classes: int) -> "Rescorer":
    """Load a rescorer from the authors' own state dict, in eval mode; implies `authors=True`.

    Raises:
        UsageError: when there is no such rescorer, or no class.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    module = RESCORERS.load(name)
    if num_classes < 1:
        raise UsageError(f"a rescorer needs at least one class, got {num_classes}")
    return module.from_authors(state_dict, num_classes).eval()
