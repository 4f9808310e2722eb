"""One network or fixed descriptor per file, and creation by name; `BackboneLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wtal.errors import UsageError
from wtal.registry import Registry, suggest

if TYPE_CHECKING:
    from wtal.extractors.descriptor import Description, Descriptor, WeightsSource
    from wtal.extractors.weights import Weights

ANY = None
"""`VARIANTS` of a leaf that accepts any text after the colon."""


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

    def create(self, stream: str, weights: "WeightsSource", variant: str) -> "Descriptor":
        """Create the backbone of one stream; `variant` is empty if there are none.

        Raises:
            WeightsError: when the weights are missing, damaged, or do not fit.
        """


@runtime_checkable
class HasVariants(Protocol):
    """A module whose backbone comes in several sizes or forms, as in `csn:ir152`."""

    @property
    def VARIANTS(self) -> tuple[str, ...] | None:
        """Names of the variants, the default first; `ANY` leaves the choice to the module."""


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


def create_backbone(name: str, stream: str, weights: "WeightsSource" = None) -> "Descriptor":
    """Create the backbone `name`, or `name:variant`, for one stream, in eval mode.

    `weights` is a path, a mapping of tensors, a name from the backbone's `WEIGHTS`, or `random:SEED` for dry runs and
    tests; None means the first of `WEIGHTS`.

    Raises:
        UsageError: when the backbone or variant is unknown, or lacks the stream.
        WeightsError: when the weights are missing, damaged, or do not fit.
    """
    module = BACKBONES.load(name)
    if stream not in module.STREAMS:
        raise UsageError(f"backbone {name} has no stream {stream!r}; {suggest(stream, module.STREAMS)}")
    return module.create(stream, weights, variant_of(name)).eval()


def described(name: str) -> "dict[str, Description]":
    """Map `VARIANT`, `STREAM` or, if there are several of both, `VARIANT STREAM` -> the input of leaf `name`.

    Empty if the leaf has no description.

    Raises:
        UsageError: when the backbone is unknown.
    """
    module, variants = BACKBONES.load(name), _variants(name)
    if not isinstance(module, HasDescription) or variants is ANY:
        return {}
    several = len(module.STREAMS) > 1
    return {
        f"{variant} {stream if several or not variant else ''}".strip(): module.describe(stream, variant)
        for variant in variants or ("",)
        for stream in module.STREAMS
    }


def full_name(name: str) -> str:
    """Return a backbone's name with its variant, if it has several: `csn` is `csn:r101`.

    Raises:
        UsageError: when the backbone or variant is unknown.
    """
    variant = variant_of(name)
    return f"{name.partition(':')[0]}:{variant}" if variant else name


def variant_of(name: str) -> str:
    """Return the text after the colon of a backbone's name, or its first variant; empty if it has none.

    Raises:
        UsageError: when the backbone or variant is unknown.
    """
    variants = _variants(name)
    leaf, _, variant = name.partition(":")
    if variants is ANY or (not variant and not variants):
        return variant
    if variant and variant not in variants and not isinstance(BACKBONES.load(leaf), TakesOthers):
        raise UsageError(f"backbone {leaf} has no variant {variant!r}; {suggest(variant, variants)}")
    return variant or variants[0]


def takes_any(name: str) -> bool:
    """Return whether a leaf accepts more than its variants, such as the folder of a model."""
    return _variants(name) is ANY or isinstance(BACKBONES.load(name), TakesOthers)


def _variants(name: str) -> tuple[str, ...] | None:
    module = BACKBONES.load(name)
    return module.VARIANTS if isinstance(module, HasVariants) else ()
