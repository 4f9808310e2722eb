"""Small checkpoint, published and saved, for tests of weights."""

import pytest
import torch

from wtal.errors import WeightsError
from wtal.extractors.weights import (
    Weights,
    load_weights,
)

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "conv.bias": torch.tensor([0.5, -1.0])}


def published(url, **changes):
    values = {
        "stream": "rgb",
        "url": url,
        "licence": "MIT",
        "source": "a test",
        "trained_on": "nothing",
        "layout": "ours",
    }
    return Weights(**{**values, "unchecked": "the test gives no hash", **changes})


def saved(path, value=STATE, **options):
    torch.save(value, path, **options)
    return path


def refusal(source, available=None, stream="rgb", folder=None):
    with pytest.raises(WeightsError) as caught:
        load_weights(source, available or {}, stream, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(state):
    return list(state) == list(STATE) and all(torch.equal(state[key], STATE[key]) for key in STATE)
