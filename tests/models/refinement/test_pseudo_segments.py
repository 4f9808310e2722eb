"""Pseudo segments: each rule by hand, FuSTAL's filter against its authors' numbers, and laws of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.data.segments import Detection
from wtal.models.refinement.config import SegmentsConfig
from wtal.models.refinement.pseudo_segments import (
    PseudoSegments,
    agreement,
    density,
    pseudo_segments,
    union,
    unite,
)

CLASSES = ("jump", "run")


def proposals(*rows, label="jump"):
    return [Detection(start, end, label, score) for start, end, score in rows]


def plain(segments):
    return [
        (*border, CLASSES[index]) for border, index in zip(segments.borders.tolist(), segments.classes, strict=True)
    ]


@needs_shared
def test_density_and_score_keep_what_fustal_keeps():
    reference = np.load(SHARED / "reference" / "heads2" / "pseudo_labels.npz")
    borders, scores = reference["fustal_segments"].astype(float), reference["fustal_scores"].astype(float)
    dense = density(borders)
    np.testing.assert_allclose(dense, reference["fustal_iou_sum"], rtol=1e-5)
    config = SegmentsConfig(min_score=0.4, min_density=0.2, merging="none", min_share=0.0)
    own = pseudo_segments(proposals(*zip(*borders.T, scores, strict=True)), CLASSES, frozenset({"jump"}), config)
    wanted = borders[reference["fustal_kept"]]
    np.testing.assert_allclose(np.sort(own.borders, axis=0), np.sort(wanted, axis=0), rtol=1e-6)


def test_only_labels_of_the_video_are_taught():
    rows = [*proposals((0, 4, 0.9)), *proposals((6, 9, 0.8), label="run")]
    own = pseudo_segments(rows, CLASSES, frozenset({"run"}), SegmentsConfig(min_density=0))
    assert plain(own) == [(6, 9, "run")]


def test_a_label_has_its_best_proposal_where_no_density_is_reached():
    own = pseudo_segments(proposals((0, 4, 0.1), (10, 12, 0.4)), CLASSES, frozenset({"jump"}), SegmentsConfig())
    assert plain(own) == [(10, 12, "jump")]


def test_a_label_without_a_positive_score_has_none():
    own = pseudo_segments(proposals((0, 4, 0.0), (10, 12, -1)), CLASSES, frozenset({"jump"}), SegmentsConfig())
    assert plain(own) == []
    assert own.ignored.shape == (0, 2)


def test_fusion_moves_borders_by_exponential_weights():
    rows = proposals((0, 10, 1.0), (2, 10, 0.4))
    config = SegmentsConfig(min_density=0, temperature=0.3)
    (start, end, _), *others = plain(pseudo_segments(rows, CLASSES, frozenset({"jump"}), config))
    weight = np.exp(-0.6 / 0.3)
    assert not others
    np.testing.assert_allclose([start, end], [2 * weight / (1 + weight), 10])


def test_hard_merging_leaves_borders_alone():
    rows = proposals((0, 10, 1.0), (2, 10, 0.4))
    config = SegmentsConfig(min_density=0, merging="hard")
    assert plain(pseudo_segments(rows, CLASSES, frozenset({"jump"}), config)) == [(0, 10, "jump")]


def test_weak_segments_go_and_may_be_action():
    rows = proposals((0, 4, 1.0), (20, 24, 0.3), (40, 44, 0.1))
    config = SegmentsConfig(min_density=0, ignore_density=0)
    own = pseudo_segments(rows, CLASSES, frozenset({"jump"}), config)
    assert plain(own) == [(0, 4, "jump")]
    assert own.ignored.tolist() == [[0, 4], [20, 24]]


@pytest.mark.parametrize(("weighting", "weights"), [("none", [1.0, 1.0]), ("score", [1.0, 0.6])])
def test_weights_are_shares_of_the_best(weighting, weights):
    rows = proposals((0, 4, 0.5), (20, 24, 0.3))
    config = SegmentsConfig(min_density=0, weighting=weighting)
    own = pseudo_segments(rows, CLASSES, frozenset({"jump"}), config)
    np.testing.assert_allclose(own.weights, weights)
    np.testing.assert_allclose(own.scores, [0.5, 0.3])


def test_older_segments_stay_where_no_newer_one_of_their_class_is():
    def of(*rows):
        parts = [
            PseudoSegments(np.array([[start, end]], float), np.array([label]), np.ones(1), np.ones(1))
            for start, end, label in rows
        ]
        return PseudoSegments.joined(parts)

    joined = unite(of((0, 4, 0), (10, 12, 1)), of((1, 4, 0), (10, 12, 0), (30, 34, 1)))
    assert joined.borders.tolist() == [[0, 4], [10, 12], [10, 12], [30, 34]]
    assert joined.classes.tolist() == [0, 1, 0, 1]


def test_agreement_is_the_best_tiou_of_the_class():
    older = PseudoSegments(np.array([[0.0, 4.0], [0.0, 8.0]]), np.array([0, 1]), np.ones(2), np.ones(2))
    newer = PseudoSegments(np.array([[0.0, 8.0], [20.0, 24.0]]), np.array([0, 1]), np.ones(2), np.ones(2))
    assert agreement(newer, older).tolist() == [0.5, 0.0]


def test_union_covers_the_same():
    assert union(np.array([[4.0, 6.0], [0.0, 2.0], [1.0, 3.0], [3.0, 3.5]])).tolist() == [[0, 3.5], [4, 6]]
    assert union(np.zeros((0, 2))).shape == (0, 2)


rows_of = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12), st.floats(0, 1)).map(lambda r: (r[0], r[0] + r[1], r[2])),
    max_size=30,
)


@given(rows_of)
def test_laws(rows):
    own = pseudo_segments(proposals(*rows), CLASSES, frozenset({"jump"}), SegmentsConfig())
    assert bool(len(own.classes)) == any(score > 0 for _, _, score in rows)
    if len(own.classes):
        assert own.borders.min() >= min(start for start, _, _ in rows) - 1e-9
        assert own.borders.max() <= max(end for _, end, _ in rows) + 1e-9
        assert (own.borders[:, 1] > own.borders[:, 0]).all()
    again = PseudoSegments.from_json(own.to_json())
    assert again.to_json() == own.to_json()
