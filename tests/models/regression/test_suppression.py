"""Gaussian suppression and voting against step-by-step procedures; decoding of outputs made by hand."""

import math

import numpy as np
import pytest
import torch

from wtal.models.localization.suppression import suppress
from wtal.models.regression.decoding import decode
from wtal.models.regression.points import pyramid_points
from wtal.models.regression.suppression import Detections, gaussian_suppression, vote, with_class_scores
from wtal.models.student import StudentOutput


def candidates(seed, count=60, classes=3):
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 50, count)
    borders = np.stack([starts, starts + rng.uniform(0.5, 12, count)], axis=1)
    return borders, rng.integers(0, classes, count), rng.uniform(0.001, 1, count)


def tiou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def one_by_one(borders, scores, sigma, floor):
    """Pairs (index, score) in the order of choice."""
    left, chosen = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=lambda i: left[i])
        score = left.pop(best)
        chosen.append((best, score))
        for i in list(left):
            left[i] *= math.exp(-(tiou(borders[best], borders[i]) ** 2) / sigma)
            if left[i] < floor:
                del left[i]
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by_class", [True, False])
def test_gaussian_suppression_is_the_procedure(seed, by_class):
    borders, classes, scores = candidates(seed)
    expected = []
    for label in np.unique(classes) if by_class else [None]:
        of_class = np.flatnonzero(classes == label) if by_class else np.arange(len(classes))
        chosen = one_by_one(borders[of_class], scores[of_class], 0.5, 0.05)[:15]
        expected += [(of_class[place], score) for place, score in chosen]
    expected = sorted(expected, key=lambda pair: -pair[1])[:15]
    left = gaussian_suppression(borders, classes, scores, min_score=0.05, max_detections=15, by_class=by_class)
    indices = [index for index, _ in expected]
    np.testing.assert_array_equal(left.borders, borders[indices])
    np.testing.assert_array_equal(left.classes, classes[indices])
    np.testing.assert_allclose(left.scores, [score for _, score in expected], rtol=1e-4)


def test_what_is_lowered_below_the_lowest_score_is_dropped():
    borders = np.array([[0.0, 10.0], [0.0, 10.0], [20.0, 30.0]])
    scores, group = np.array([0.9, 0.5, 0.01]), np.zeros(3, np.int64)
    lowered = 0.5 * math.exp(-1 / 0.3)
    without = suppress(borders, scores, group, "soft", 0.0)
    assert without.indices.tolist() == [0, 1, 2]
    assert without.scores.tolist() == pytest.approx([0.9, lowered, 0.01])
    assert suppress(borders, scores, group, "soft", 0.0, min_score=0.02).indices.tolist() == [0]
    assert suppress(borders, scores, group, "soft", 0.0, min_score=lowered / 2).indices.tolist() == [0, 1, 2]


def test_votes_are_weighted_by_score_and_overlap():
    near = np.array([[0.0, 10.0], [0.0, 9.5], [0.0, 5.0]])
    scores = np.array([0.5, 0.25, 1.0])
    both = vote(near[:1], near, scores, 0.9, "score_and_overlap")
    weight = 0.25 * 0.95
    assert both[0].tolist() == pytest.approx([0.0, (0.5 * 10 + weight * 9.5) / (0.5 + weight)])
    plain = vote(near[:1], near, scores, 0.9, "score")
    assert plain[0].tolist() == pytest.approx([0.0, (0.5 * 10 + 0.25 * 9.5) / 0.75])
    assert vote(near[:1], near[2:], scores[2:], 0.9, "score").tolist() == [[0.0, 10.0]]


def test_another_classifier_names_the_classes():
    detections = Detections(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0, 0]), np.array([0.64, 0.16]))
    named = with_class_scores(detections, np.array([0.04, 0.25, 0.09]))
    assert named.classes.tolist() == [1, 1, 2, 2]
    assert named.scores.tolist() == pytest.approx([0.4, 0.2, 0.24, 0.12])
    assert named.borders[:, 0].tolist() == [0, 2, 0, 2]
    assert len(with_class_scores(detections, np.array([0.04, 0.25]), top=1, max_detections=1).scores) == 1


def test_nothing_is_suppressed_to_nothing():
    left = gaussian_suppression(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0), voting_tiou=0.9)
    assert left.borders.shape == (0, 2)
    assert len(left.scores) == len(left.classes) == 0


def answer(distances):
    points = pyramid_points([4, 2], 4.0)
    logits = torch.full((1, 6, 2), -20.0)
    logits[0, 1, 0], logits[0, 3, 1], logits[0, 4, 1], logits[0, 5, 0] = 1.0, 2.0, 0.0, 3.0
    mask = torch.tensor([[True, True, True, False, True, True]])
    return StudentOutput(points, mask, logits, distances)


def test_points_answer_in_grid_steps():
    distances = torch.tensor([[[0.5, 1.0]] * 6])
    decoded = decode(answer(distances), 0)
    assert decoded.borders.tolist() == [[0.5, 2.0], [1.0, 4.0], [-1.0, 2.0]]
    assert decoded.classes.tolist() == [0, 0, 1]
    assert decoded.scores.tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in (1, 3, 0)])
    assert decode(answer(distances), 0, threshold=0.6).classes.tolist() == [0, 0]
    assert decode(answer(distances), 0, per_level=1).borders.tolist() == [[0.5, 2.0], [1.0, 4.0]]
    assert decode(answer(distances), 0, shortest=1.5).borders.tolist() == [[1.0, 4.0], [-1.0, 2.0]]


def test_borders_may_be_of_a_class():
    distances = torch.ones(1, 6, 2, 2)
    distances[0, :, 1] = 0.25
    decoded = decode(answer(distances), 0)
    assert decoded.borders.tolist() == [[0.0, 2.0], [0.0, 4.0], [-0.5, 0.5]]
