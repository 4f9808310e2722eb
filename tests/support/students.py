"""Numbers of the authors' code of regression students, and detections compared with them."""

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch

from tests.support.reference import SHARED, reference_normal
from wtal.models.regression.points import assign
from wtal.models.student import PointTargets, StudentOutput


@cache
def student_reference(name):
    """Reference: `facts` (.json), `arrays` (.npz), `weights` (key -> tensor), `features` (B, T, D), `mask` (B, T)."""
    folder = SHARED / "reference" / "heads2"
    facts = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as archive:
        arrays = dict(archive)
    weights = {key: torch.from_numpy(_weight(key, tuple(shape))) for key, shape in facts["state"].items()}
    features = torch.from_numpy(np.abs(reference_normal("input:" + facts["input"], tuple(facts["shape"]))) * 0.4)
    mask = torch.arange(features.shape[1])[None] < torch.from_numpy(arrays["lengths"])[:, None]
    return SimpleNamespace(
        name=name, facts=facts, arrays=arrays, weights=weights, features=features * mask[..., None], mask=mask
    )


def _weight(key, shape):
    """Flatten norms (1, C, 1), scales and biases to vectors."""
    x = reference_normal(key, shape)
    if len(shape) < 2 or (len(shape) == 3 and shape[0] == shape[2] == 1):
        return np.asarray(1 + 0.1 * x if key.endswith(("weight", "scale")) else 0.01 * x, dtype=np.float32)
    return (x / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def reference_targets(ours, points, classes):
    """Targets of the reference's segments."""
    segments = [
        (torch.from_numpy(ours.arrays[f"segments{i}"]), torch.from_numpy(ours.arrays[f"classes{i}"]))
        for i in range(len(ours.mask))
    ]
    return PointTargets.stack([assign(points, borders, labels, classes) for borders, labels in segments])


def given_answer(ours, points, classes, shift):
    """Output with the logits and distances of `decoded`."""
    count = len(points.time)
    logits = shift + 2.2 * reference_normal(f"{ours.name}:decode:logits", (count, classes))
    distances = 2 * np.abs(reference_normal(f"{ours.name}:decode:offsets", (count, 2)))
    mask = torch.from_numpy(ours.arrays["mask"][-1:])
    return StudentOutput(points, mask, torch.from_numpy(logits)[None].float(), torch.from_numpy(distances)[None])


def assert_near(value, expected, tolerance=1e-5):
    """Compare within `tolerance` of the largest expected number."""
    assert value.shape == expected.shape
    assert np.abs(value.detach().numpy() - expected).max() <= tolerance * np.abs(expected).max()


def assert_detections(detections, expected, facts, video):
    """Compare detections in grid steps with the reference's (start, end, class, score) in seconds and order."""
    clock, count = facts["clock"], len(expected)
    seconds = (detections.borders * clock["feat_stride"] + clock["feat_num_frames"] / 2) / clock["fps"]
    seconds = seconds.clip(0, facts["durations"][video])[:count]
    assert count == min(200, len(detections.scores))
    np.testing.assert_array_equal(detections.classes[:count], expected[:, 2])
    np.testing.assert_allclose(seconds, expected[:, :2], atol=1e-4 * expected[:, :2].max(), rtol=0)
    np.testing.assert_allclose(detections.scores[:count], expected[:, 3], atol=1e-4 * expected[:, 3].max(), rtol=0)
