"""One localization head per file, and creation by name; `HeadLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.errors import UsageError
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
        """Make a head for C = `num_classes` and stream -> D, freshly initialized.

        `config` is a `Config` of this module. With `authors` it behaves as the authors' code, quirks included.
        """

    def from_authors(self, state_dict: Mapping[str, Any], num_classes: int) -> "Head":
        """Make a head from a state dict with the keys that the authors' own code saves.

        It may accept further settings, each with a default, for what cannot be inferred from the tensors.

        Raises:
            WeightsError: when a key is missing, left over, or of another shape, or the authors published no code.
        """


HEADS = Registry[HeadLeaf]("head", __name__, HeadLeaf)


def create_head(
    name: str, num_classes: int, feature_dims: Mapping[str, int], *, authors: bool = False, **config: Any
) -> "Head":
    """Create the head `name` for C = `num_classes` and streams of the given widths, freshly initialized.

    With `authors` it behaves as the authors' code, quirks included; the default corrects them. The leaf's docstring
    lists the differences. `config` holds the head's own settings.

    Raises:
        UsageError: when there is no such head, no class, or no stream of features.
        ConfigError: when a setting is unknown or invalid.
    """
    module = HEADS.load(name)
    _some_classes(num_classes)
    if not feature_dims or min(feature_dims.values()) < 1:
        raise UsageError(f"a head needs at least one stream of features, got {dict(feature_dims)}")
    return module.create(num_classes, dict(feature_dims), module.Config.parse(config, f"head {name}"), authors)


def load_author_checkpoint(name: str, state_dict: Mapping[str, Any], num_classes: int, **settings: Any) -> "Head":
    """Load a head from the authors' own state dict, in eval mode; implies `authors=True`.

    A head with a model per stream also accepts stream -> state dict. `settings` hold what cannot be inferred from the
    tensors, if a leaf's `from_authors` asks for it.

    Raises:
        UsageError: when there is no such head, no class, or no such setting.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    load: Callable[..., Head] = HEADS.load(name).from_authors
    _some_classes(num_classes)
    unknown = [key for key in settings if key not in author_settings(name)]
    if unknown:
        raise UsageError(f"an authors' checkpoint of {name} takes no setting {unknown[0]!r}")
    return load(state_dict, num_classes, **settings).eval()


def author_settings(name: str) -> set[str]:
    """Names of the settings that a leaf's `from_authors` accepts in addition to the tensors."""
    return {*inspect.signature(HEADS.load(name).from_authors).parameters} - {"state_dict", "num_classes"}


def _some_classes(count: int) -> None:
    if count < 1:
        raise UsageError(f"a head needs at least one class, got {count}")
