"""One network or fixed descriptor per file: clips to feature vectors. `BackboneLeaf` says what a file holds."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.backbone import Backbone, Description, WeightsSource
    from wtal.extractors.weights import Weights


class BackboneLeaf(Protocol):
    """A module of `backbones/`. It may be a `HasVariants`, `TakesOthers` and `HasDescription` too."""

    @property
    def STREAMS(self) -> tuple[str, ...]:
        """Streams that it has, of "rgb" and "flow"."""

    @property
    def FLOW(self) -> str:
        """Flow method that it takes by default; empty where it has no stream of flow."""

    @property
    def STRIDE(self) -> int:
        """Frames from one snippet to the next by default."""

    @property
    def WEIGHTS(self) -> "Mapping[str, Weights]":
        """Published checkpoints by name; empty where there is none to load."""

    def create(self, stream: str, weights: "WeightsSource", variant: str) -> "Backbone":
        """Make the backbone of one stream; `variant` is empty where there are none.

        Raises:
            WeightsError: when the weights are missing, damaged, or do not fit.
        """


@runtime_checkable
class HasVariants(Protocol):
    """A module whose backbone comes in several sizes or forms: a user writes `csn:ir152`."""

    @property
    def VARIANTS(self) -> tuple[str, ...] | None:
        """Their names, the default first; `wtal.extractors.backbone.ANY` leaves it to the module what may be named."""


@runtime_checkable
class TakesOthers(Protocol):
    """A module that takes more behind the colon than its `VARIANTS`, as a model's folder; `create` refuses the rest."""

    @property
    def OTHERS(self) -> str:
        """Names that may stand there too, in words."""


@runtime_checkable
class HasDescription(Protocol):
    """A module that says what its backbone sees before any weights are there; lists and pages show it."""

    def describe(self, stream: str, variant: str) -> "Description":
        """Return what the backbone sees of one stream."""


BACKBONES = Registry[BackboneLeaf]("backbone", __name__, BackboneLeaf)
