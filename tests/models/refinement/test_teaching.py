"""Batches for a student: windows, paces, and targets on the clock of what the student sees."""

import numpy as np
import pytest
import torch

from wtal.models.refinement.config import StudentTrainConfig
from wtal.models.refinement.pseudo_segments import PseudoSegments
from wtal.models.refinement.teaching import TaughtVideo, targets_of, taught_batch
from wtal.models.regression.points import pyramid_points
from wtal.models.training.inputs import Scaler

PLAIN = Scaler({}, {})


def video(length, labels=(1.0, 0.0), begins=0.25, period=0.5):
    """Features that are the snippets' own times."""
    seconds = begins + period * np.arange(length, dtype=np.float32)
    return TaughtVideo("a", lambda: {"rgb": seconds[:, None]}, np.array(labels, np.float32), begins, period)


def segments(*rows):
    borders = np.array(rows, dtype=float).reshape(-1, 2)
    count = len(borders)
    return PseudoSegments(borders, np.zeros(count, np.int64), np.ones(count), np.ones(count), np.zeros((0, 2)))


@pytest.mark.parametrize("stretch", [1.0, 2.0])
@pytest.mark.parametrize("max_length", [16, 64])
def test_borders_stay_where_the_features_are(stretch, max_length):
    """At the grid step of a second, the feature is that second, however fast the video is played."""
    own, config = video(40), StudentTrainConfig(stretch=stretch, max_length=max_length)
    for seed in range(5):
        batch = taught_batch([own], PLAIN, config, np.random.default_rng(seed))
        (window,) = batch.windows
        times = batch.features[0, :, 0].double().numpy()
        inner = times[1:-1]
        steps = window.grid_steps(own, inner)
        np.testing.assert_allclose(steps, np.arange(1, len(times) - 1), atol=1e-4)
        assert len(times) <= max_length


def test_paces_differ_and_follow_the_generator():
    config = StudentTrainConfig(stretch=2.0)
    paces = [taught_batch([video(40)], PLAIN, config, np.random.default_rng(s)).windows[0].pace for s in range(8)]
    again = [taught_batch([video(40)], PLAIN, config, np.random.default_rng(s)).windows[0].pace for s in range(8)]
    assert paces == again
    assert len(set(paces)) > 4
    assert 0.5 <= min(paces) < 0.9 < 1.1 < max(paces) <= 2.0


def test_targets_are_in_steps_of_the_window():
    own = video(40)
    batch = taught_batch([own], PLAIN, StudentTrainConfig(stretch=1.0), np.random.default_rng(0))
    targets = targets_of([own], batch.windows, [segments((2.25, 4.25))], pyramid_points([40, 20, 10], 4.0))
    positive = (targets.classes[0].sum(dim=1) > 0).nonzero()[:, 0].tolist()
    assert positive
    assert set(positive) <= set(range(4, 9)) | {42, 43, 44}
    point = positive[0]
    torch.testing.assert_close(targets.distances[0, point].sum(), torch.tensor(4.0))


def test_who_has_labels_and_no_segment_teaches_nothing_and_a_negative_is_background():
    points = pyramid_points([40, 20], 4.0)
    labelled, negative = video(40), video(40, labels=(0.0, 0.0))
    batch = taught_batch([labelled, negative], PLAIN, StudentTrainConfig(), np.random.default_rng(0))
    targets = targets_of([labelled, negative], batch.windows, [segments(), segments()], points)
    assert targets.weight.tolist() == [[0.0] * 60, [1.0] * 60]
    assert not targets.classes.any()


def test_ignored_places_take_no_part_unless_a_segment_is_there():
    own, points = video(40), pyramid_points([40], 4.0)
    some = segments((2.0, 4.0))
    some = PseudoSegments(some.borders, some.classes, some.scores, some.weights, np.array([[3.0, 8.0]]))
    batch = taught_batch([own], PLAIN, StudentTrainConfig(stretch=1.0), np.random.default_rng(0))
    weight = targets_of([own], batch.windows, [some], points).weight[0]
    seconds = own.begins + own.period * np.arange(40)
    assert weight.tolist() == [float(not 4.0 < second <= 8.0) for second in seconds]
