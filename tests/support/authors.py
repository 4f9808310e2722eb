"""Numbers of the authors' code, and heads compared with them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support.reference import SHARED, reference_normal, reference_weights


def reference(name, folder="heads"):
    """Reference: `facts` (.json), `arrays` (.npz), `weights` (key -> tensor), `features` (B, T, D), `labels` (B, C)."""
    folder = SHARED / "reference" / folder
    facts = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz")
    weights = {key: torch.from_numpy(value) for key, value in reference_weights(facts["state"]).items()}
    features = torch.from_numpy(np.abs(reference_normal("input:" + facts["input"], tuple(facts["shape"]))) * 0.4)
    labels = torch.from_numpy(arrays["labels"]).float() if "labels" in arrays else None
    return SimpleNamespace(facts=facts, arrays=arrays, weights=weights, features=features, labels=labels)


def assert_equal(tensors, arrays):
    """Compare tensors by name, each within 1e-5 of the largest number of the array of that name."""
    for name, value in tensors.items():
        expected = arrays[name].reshape(value.shape)
        assert np.abs(value.detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max(), name


def assert_losses(terms, losses, weights):
    """Compare weighted terms with the unweighted ones of the reference."""
    assert set(terms) == set(weights)
    for name, weight in weights.items():
        assert terms[name].item() == pytest.approx(losses[name] * weight, rel=1e-5), name
