"""One network or fixed descriptor per file: clips to feature vectors. The contract of a file is `BackboneLeaf`."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.registry import Registry

if TYPE_CHECKING:
    from wtal.extractors.backbone import Backbone, Description, WeightsSource
    from wtal.extractors.weights import Weights


class BackboneLeaf(Protocol):
    """A module of `backbones/`. It may also be a `HasVariants`, `TakesOthers` and `HasDescription`."""

    @property
    def STREAMS(self) -> tuple[str, ...]:
        """Available streams, out of "rgb" and "flow"."""

    @property
    def FLOW(self) -> str:
        """Default flow method; empty without a flow stream."""

    @property
    def STRIDE(self) -> int:
        """Default number of frames from one snippet to the next."""

    @property
    def WEIGHTS(self) -> "Mapping[str, Weights]":
        """Published checkpoints by name; empty if there is none to load."""

    def create(self, stream: str, weights: "WeightsSource", variant: str) -> "Backbone":
        """Create the backbone of one stream; `variant` is empty if there are none.

        Raises:
            WeightsError: when the weights are missing, damaged, or do not fit.
        """


@runtime_checkable
class HasVariants(Protocol):
    """A module whose backbone comes in several sizes or forms, as in `csn:ir152`."""

    @property
    def VARIANTS(self) -> tuple[str, ...] | None:
        """Names of the variants, the default first; `wtal.extractors.backbone.ANY` leaves the choice to the module."""


@runtime_checkable
class TakesOthers(Protocol):
    """A module that accepts more than its `VARIANTS` after the colon, such as a model's folder; `create` checks it."""

    @property
    def OTHERS(self) -> str:
        """Description of the other accepted names."""


@runtime_checkable
class HasDescription(Protocol):
    """A module that describes its backbone's input without any weights, for lists and pages."""

    def describe(self, stream: str, variant: str) -> "Description":
        """Return the description of the backbone's input for one stream."""


BACKBONES = Registry[BackboneLeaf]("backbone", __name__, BackboneLeaf)
