"""Published checkpoints of all backbones, by name: located, fetched and checked."""

from pathlib import Path

from wtal.errors import UsageError, WeightsError
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.weights import Weights, fetch, verify, weights_folder
from wtal.registry import suggest


def published_weights() -> dict[str, Weights]:
    """Return `BACKBONE:NAME` -> its published weights."""
    return {
        f"{backbone}:{name}": weights
        for backbone in BACKBONES.names()
        for name, weights in BACKBONES.load(backbone).WEIGHTS.items()
    }


def weights_file(weights: Weights) -> Path:
    """Return the actual or expected path of a checkpoint's file."""
    return weights.location(weights_folder())


def fetch_weights(name: str) -> Path:
    """Download the checkpoint `BACKBONE:NAME`, or resume a transfer; return the checked file.

    Raises:
        UsageError: when there are no such weights.
        WeightsError: when the checkpoint cannot be downloaded, or has another hash.
    """
    return fetch(_named(name), weights_folder())


def check_weights(name: str) -> Path:
    """Read the file of `BACKBONE:NAME` whole and compare it with its hash; nothing is downloaded or written.

    Raises:
        UsageError: when there are no such weights.
        WeightsError: when the file is missing, has another hash, or is not a checkpoint.
    """
    weights = _named(name)
    if not weights_file(weights).is_file():
        raise WeightsError(f"{name} is not at {weights_file(weights)}; run: wtal weights fetch {name}")
    return verify(weights, weights_file(weights))


def _named(name: str) -> Weights:
    known = published_weights()
    if name not in known:
        raise UsageError(f"there are no weights {name!r}; {suggest(name, known)}")
    return known[name]
