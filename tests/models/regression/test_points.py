"""Points of a pyramid, and the target of each, against the rule applied point by point."""

import pytest
import torch

from wtal.errors import UsageError
from wtal.models.regression.points import assign, pyramid_points

RADIUS = 1.5


def told(points, segments, labels, classes, radius=RADIUS):
    """Apply the rule point by point: (classes, distances, index of the segment or None)."""
    lessons = []
    for t, stride, low, high in zip(*(values.tolist() for values in vars(points).values()), strict=True):
        fitting = []
        for place, (start, end) in enumerate(segments.tolist()):
            middle = (start + end) / 2
            inside = max(middle - radius * stride, start) < t < min(middle + radius * stride, end)
            if inside and low <= max(t - start, end - t) <= high:
                fitting.append((end - start, place))
        if not fitting:
            lessons.append(([0.0] * classes, (0.0, 0.0), None))
            continue
        length, winner = min(fitting)
        hot = [0.0] * classes
        for other, place in fitting:
            if other <= length + 1e-3:
                hot[labels[place]] = 1.0
        start, end = segments[winner].tolist()
        lessons.append((hot, ((t - start) / stride, (end - t) / stride), winner))
    return lessons


def test_points_lie_at_multiples_of_their_stride_and_ranges_double():
    points = pyramid_points([5, 3, 2], 4.0)
    assert points.time.tolist() == [0, 1, 2, 3, 4, 0, 2, 4, 0, 4]
    assert points.stride.tolist() == [1] * 5 + [2] * 3 + [4] * 2
    assert points.low.tolist() == [0] * 5 + [4] * 3 + [8] * 2
    assert points.high.tolist() == [4] * 5 + [8] * 3 + [10000] * 2


@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_rule_where_segments_overlap(seed):
    generator = torch.Generator().manual_seed(seed)
    points = pyramid_points([64, 32, 16, 8, 4], 4.0)
    starts = torch.rand(30, generator=generator) * 60
    lengths = torch.rand(30, generator=generator) ** 2 * 30
    segments = torch.stack([starts, starts + lengths], dim=1)
    segments = torch.cat([segments, segments[:6]])  # twins of another class
    labels = torch.randint(4, (36,), generator=generator)
    weights = torch.rand(36, generator=generator)
    ours = assign(points, segments, labels, 4, weights=weights)
    positive = 0
    for place, (hot, distances, winner) in enumerate(told(points, segments, labels.tolist(), 4)):
        assert ours.classes[place].tolist() == hot
        assert ours.distances[place].tolist() == pytest.approx(distances, abs=1e-4)
        assert ours.weight[place].item() == pytest.approx(1.0 if winner is None else weights[winner].item())
        positive += winner is not None
    assert positive > 20


def test_the_shortest_of_overlapping_segments_wins():
    """Only the shortest segment teaches, so that pseudo segments are fused before training."""
    points = pyramid_points([40], 4.0)
    short, long = [19.0, 22.0], [18.0, 23.5]
    alone = assign(points, torch.tensor([long]), torch.tensor([0]), 2)
    both = assign(points, torch.tensor([long, short]), torch.tensor([0, 1]), 2)
    assert alone.classes[20].tolist() == [1, 0]
    assert both.classes[20].tolist() == [0, 1]
    assert both.distances[20].tolist() == [1, 2]


def test_distances_are_in_strides_of_the_level():
    points = pyramid_points([40, 20, 10], 4.0)
    lesson = assign(points, torch.tensor([[9.0, 29.0]]), torch.tensor([0]), 1)
    positive = lesson.classes[:, 0] > 0
    assert points.stride[positive].unique().tolist() == [4.0]
    time, distances = points.time[positive], lesson.distances[positive]
    assert torch.equal(time - 4 * distances[:, 0], torch.full_like(time, 9.0))
    assert torch.equal(time + 4 * distances[:, 1], torch.full_like(time, 29.0))


def test_points_in_ignored_segments_have_no_weight_unless_they_are_taught():
    points = pyramid_points([40], 4.0)
    lesson = assign(
        points, torch.tensor([[9.0, 12.0]]), torch.tensor([0]), 1, ignored=torch.tensor([[8.0, 20.0], [30.0, 32.0]])
    )
    free = [t for t in range(40) if lesson.weight[t] == 1]
    assert free == [*range(9), 10, 11, *range(20, 31), *range(32, 40)]
    assert lesson.classes[10:12].tolist() == [[1], [1]]
    only = assign(points, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 1, ignored=torch.tensor([[3.0, 5.0]]))
    assert (only.weight == 0).nonzero()[:, 0].tolist() == [4]


@pytest.mark.parametrize(
    ("segments", "labels", "weights", "words"),
    [
        (torch.rand(2, 3), torch.tensor([0, 0]), None, r"wanted segments \(N, 2\) and labels \(N,\), got \(2, 3\)"),
        (torch.rand(2, 2), torch.tensor([0]), None, r"got \(2, 2\), \(1,\)"),
        (torch.rand(2, 2), torch.tensor([0, 3]), None, "labels must be from 0 to 2, got 0 to 3"),
        (torch.rand(2, 2), torch.tensor([0, 1]), torch.rand(1), "a weight for each of 2 segments, got 1"),
    ],
)
def test_segments_that_do_not_fit_are_refused(segments, labels, weights, words):
    with pytest.raises(UsageError, match=words):
        assign(pyramid_points([8], 4.0), segments, labels, 3, weights=weights)
