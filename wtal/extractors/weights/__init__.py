"""Published weights: the entries of backbones, their files found or downloaded, checked, and fitted to a network."""

from wtal.extractors.weights.published import (
    Weights,
    fetch,
    load_strict,
    load_weights,
    pin_of,
    published_as,
    random_seed,
    randomise,
    refuse_misfits,
    share_variance,
    verify,
    weights_folder,
)

__all__ = [
    "Weights",
    "fetch",
    "load_strict",
    "load_weights",
    "pin_of",
    "published_as",
    "random_seed",
    "randomise",
    "refuse_misfits",
    "share_variance",
    "verify",
    "weights_folder",
]
