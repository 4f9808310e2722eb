"""Batches for a student: windows, and targets on the clock of its input."""

import numpy as np
import torch

from wtal.models.refinement.pseudo_segments import PseudoSegments
from wtal.models.refinement.teaching import TaughtVideo, targets_of, taught_batch
from wtal.models.regression.points import pyramid_points
from wtal.models.training.inputs import Scaler

PLAIN = Scaler({}, {})


def video(length, labels=(1.0, 0.0), begins=0.25, period=0.5):
    """Features equal to the snippets' times."""
    seconds = begins + period * np.arange(length, dtype=np.float32)
    return TaughtVideo("a", lambda: {"rgb": seconds[:, None]}, np.array(labels, np.float32), begins, period)


def segments(*rows):
    borders = np.array(rows, dtype=float).reshape(-1, 2)
    count = len(borders)
    return PseudoSegments(borders, np.zeros(count, np.int64), np.ones(count), np.ones(count), np.zeros((0, 2)))


def test_long_videos_are_cut_to_a_window_whose_first_snippet_is_told():
    own = video(40)
    firsts = []
    for seed in range(6):
        batch = taught_batch([own], PLAIN, 16, 0.0, np.random.default_rng(seed))
        (first,) = batch.firsts
        assert batch.features[0, :, 0].tolist() == own.load()["rgb"][first : first + 16, 0].tolist()
        firsts.append(first)
    assert len(set(firsts)) > 2
    assert taught_batch([own], PLAIN, 64, 0.0, np.random.default_rng(0)).firsts == (0,)


def test_targets_are_in_steps_of_the_window():
    own = video(40)
    batch = taught_batch([own], PLAIN, 64, 0.0, np.random.default_rng(0))
    targets = targets_of([own], batch.firsts, [segments((2.25, 4.25))], pyramid_points([40, 20, 10], 4.0))
    positive = (targets.classes[0].sum(dim=1) > 0).nonzero()[:, 0].tolist()
    assert positive
    assert set(positive) <= set(range(4, 9)) | {42, 43, 44}
    point = positive[0]
    torch.testing.assert_close(targets.distances[0, point].sum(), torch.tensor(4.0))


def test_who_has_labels_and_no_segment_teaches_nothing_and_a_negative_is_background():
    points = pyramid_points([40, 20], 4.0)
    labelled, negative = video(40), video(40, labels=(0.0, 0.0))
    batch = taught_batch([labelled, negative], PLAIN, 64, 0.0, np.random.default_rng(0))
    targets = targets_of([labelled, negative], batch.firsts, [segments(), segments()], points)
    assert targets.weight.tolist() == [[0.0] * 60, [1.0] * 60]
    assert not targets.classes.any()


def test_ignored_places_take_no_part_unless_a_segment_is_there():
    own, points = video(40), pyramid_points([40], 4.0)
    some = segments((2.0, 4.0))
    some = PseudoSegments(some.borders, some.classes, some.scores, some.weights, np.array([[3.0, 8.0]]))
    batch = taught_batch([own], PLAIN, 64, 0.0, np.random.default_rng(0))
    weight = targets_of([own], batch.firsts, [some], points).weight[0]
    seconds = own.begins + own.period * np.arange(40)
    assert weight.tolist() == [float(not 4.0 < second <= 8.0) for second in seconds]
