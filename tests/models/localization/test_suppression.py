"""Suppression of every kind against naive versions, for one group and many; and its laws."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.models.localization.suppression import suppress

borders_of = st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda one: (one[0] / 2, (one[0] + one[1]) / 2))
rows = st.lists(st.tuples(borders_of, st.integers(-3, 12), st.integers(0, 3)), max_size=40)
limits = st.sampled_from([0.0, 0.2, 0.45, 0.7, 1.0])
overlap_kinds = st.sampled_from(["tiou", "lower"])


def arrays(made):
    return (
        np.array([borders for borders, _, _ in made], dtype=float).reshape(-1, 2),
        np.array([score for _, score, _ in made], dtype=float),
        np.array([group for _, _, group in made], dtype=np.int64),
    )


def overlap(one, other, kind, plus=0.0):
    both = max(0.0, min(one[1], other[1]) - max(one[0], other[0]) + plus)
    whole = other[1] - other[0] + plus
    if kind == "tiou":
        whole = whole + (one[1] - one[0] + plus) - both
    return both / whole if whole > 0 else 0.0


def by_group(naive, borders, scores, group):
    """Rows (index, start, end, score) of each group in turn, from `naive`."""
    found = []
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        found += [(int(members[i]), *place, score) for i, place, score in naive(borders[members], scores[members])]
    return found


def naive_hard(most, kind, plus, fuse, borders, scores):
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    while left:
        best, rest = left[0], left[1:]
        gone = [i for i in rest if overlap(borders[best], borders[i], kind, plus) > most]
        place = tuple(borders[best])
        members = [(scores[i], borders[i]) for i in [best, *gone] if scores[i] > 0]
        if fuse and members:
            total = sum(score for score, _ in members)
            place = tuple(sum(score * b[side] for score, b in members) / total for side in (0, 1))
        yield best, place, scores[best]
        left = [i for i in rest if i not in gone]


def naive_soft(fade, keep, kind, borders, scores):
    scores, left = list(scores), list(range(len(scores)))
    for _ in range(min(keep, len(left))):
        best = max(left, key=lambda i: scores[i])
        yield best, tuple(borders[best]), scores[best]
        left.remove(best)
        for i in left:
            scores[i] *= fade(overlap(borders[best], borders[i], kind))


def assert_equals(kept, wanted):
    assert kept.indices.tolist() == [row[0] for row in wanted]
    np.testing.assert_allclose(kept.borders, np.array([row[1:3] for row in wanted]).reshape(-1, 2), atol=1e-9)
    np.testing.assert_allclose(kept.scores, [row[3] for row in wanted], atol=1e-9)


@settings(deadline=None, max_examples=150)
@given(rows, limits, overlap_kinds, st.sampled_from(["hard", "fusion"]), st.sampled_from([0.0, 1.0]))
def test_removal_equals_a_plain_loop(made, most, kind, how, plus):
    borders, scores, group = arrays(made)
    naive = partial(naive_hard, most + (1e-9 if plus else 0), kind, plus, how == "fusion")
    extra = np.full(len(scores), plus) if plus else None
    assert_equals(
        suppress(borders, scores, group, how, most, overlap=kind, added_length=extra),
        by_group(naive, borders, scores, group),
    )


@settings(deadline=None, max_examples=150)
@given(rows, limits, overlap_kinds, st.sampled_from([2, 100]))
def test_fading_equals_a_plain_loop(made, most, kind, keep):
    borders, scores, group = arrays(made)
    scores = scores + np.arange(len(scores)) * 1e-3  # rounding would distinguish equal scores with equal decay
    gaussian = partial(naive_soft, lambda share: np.exp(-(share**2) / 0.3), keep, kind)
    linear = partial(naive_soft, lambda share: 1 - share if share > most else 1.0, keep, kind)
    for how, naive in (("soft", gaussian), ("linear", linear)):
        kept = suppress(borders, scores, group, how, most, 0.3, keep, kind)
        assert_equals(kept, by_group(naive, borders, scores, group))


@settings(deadline=None)
@given(rows, limits)
def test_what_is_left_is_left_alone(made, most):
    borders, scores, group = arrays(made)
    kept = suppress(borders, scores, group, "hard", most)
    again = suppress(kept.borders, kept.scores, group[kept.indices], "hard", most)
    assert again.indices.tolist() == list(range(len(kept.indices)))


def test_fusion_moves_borders_towards_what_it_removes():
    borders, scores = np.array([[0.0, 10.0], [2.0, 12.0], [20.0, 25.0]]), np.array([3.0, 1.0, 2.0])
    kept = suppress(borders, scores, np.zeros(3, np.int64), "fusion", 0.5)
    assert kept.indices.tolist() == [0, 2]
    assert kept.borders.tolist() == [[0.5, 10.5], [20.0, 25.0]]
    assert kept.scores.tolist() == [3.0, 2.0]


def test_linear_fading_by_hand():
    borders, scores = np.array([[0.0, 10.0], [0.0, 5.0], [9.0, 19.0]]), np.array([1.0, 0.8, 0.6])
    kept = suppress(borders, scores, np.zeros(3, np.int64), "linear", 0.3)
    assert kept.indices.tolist() == [0, 2, 1]
    assert kept.scores.tolist() == [1.0, 0.6, pytest.approx(0.4)]


@pytest.mark.parametrize("how", ["hard", "soft", "linear", "fusion"])
def test_nothing_is_left_of_nothing(how):
    kept = suppress(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), how, 0.5)
    assert [len(part) for part in (kept.indices, kept.borders, kept.scores)] == [0, 0, 0]


@needs_shared
@pytest.mark.parametrize("label", [3, 11])
@pytest.mark.parametrize("name", ["evaluation_0.2", "fused_0.1", "fused_0.02", "fused_0.002"])
def test_fusion_by_a_temperature_equals_the_authors(label, name):
    reference = np.load(SHARED / "reference" / "heads2" / "pseudo_labels.npz")
    start, end, score, inner = reference[f"proposals_class{label}"].astype(float).T
    fused = suppress(
        np.column_stack([start, end]),
        score,
        np.zeros(len(score), np.int64),
        "fusion",
        0.25,
        overlap="lower",
        added_length=np.ones(len(score)),
        temperature=float(name.partition("_")[2]),
        support=inner,
    )
    wanted = reference[f"{name}_class{label}"]
    np.testing.assert_allclose(np.column_stack([fused.borders, fused.scores]), wanted, rtol=1e-5, atol=1e-5)


def test_a_temperature_takes_large_scores_without_overflow():
    borders = np.array([[0.0, 4.0], [0.0, 6.0], [20.0, 22.0]])
    fused = suppress(borders, np.array([2e4, 1e4, 3.0]), np.array([0, 0, 1]), "fusion", 0.3, temperature=0.1)
    np.testing.assert_array_equal(fused.borders, [[0, 4], [20, 22]])
    np.testing.assert_array_equal(fused.scores, [2e4, 3.0])


def test_huge_scores_as_weights_do_not_overflow():
    borders, group = np.array([[0.0, 40.0], [0.0, 60.0], [100.0, 101.3]]), np.zeros(3, dtype=np.int64)
    scores = np.array([0.75, 0.25, 0.1])
    fused = suppress(borders, scores * 2.0**1023, group, "fusion", 0.3)
    np.testing.assert_array_equal(fused.borders, suppress(borders, scores, group, "fusion", 0.3).borders)
    np.testing.assert_array_equal(fused.borders[0], [0.0, 45.0])


def test_none_orders_and_keeps_all():
    borders = np.array([[0.0, 4.0], [0.0, 4.0], [1.0, 4.0]])
    kept = suppress(borders, np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]), "none", 0.0)
    assert kept.indices.tolist() == [1, 0, 2]
    assert kept.scores.tolist() == [2, 1, 3]
