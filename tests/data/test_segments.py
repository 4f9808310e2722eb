import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtal.data.segments import Annotation, Detection, Segment, as_array, tiou, tiou_matrix

seconds = st.floats(-1e4, 1e4, allow_nan=False)
segments = st.tuples(seconds, seconds).map(lambda pair: Segment(min(pair), max(pair)))


@pytest.mark.parametrize(("start", "end"), [(2, 1), (math.nan, 1), (0, math.nan), (0, math.inf), (-math.inf, 0)])
def test_a_segment_needs_finite_ordered_ends(start, end):
    with pytest.raises(ValueError, match="finite start <= end"):
        Segment(start, end)


def test_a_segment_is_frozen_and_comparable():
    assert Detection(1, 2, "jump", 0.5) == Detection(1, 2, "jump", 0.5)
    assert len({Annotation(1, 2, "jump"), Annotation(1, 2, "jump"), Annotation(1, 2, "run")}) == 2
    with pytest.raises(AttributeError):
        Segment(0, 1).start = 3


@given(segments, segments)
def test_tiou_is_symmetric_and_one_only_for_equal_segments(first, second):
    value = tiou(first, second)
    assert value == tiou(second, first)
    assert 0 <= value <= 1
    assert (value == 1) == (first == second)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((0, 2), (1, 3), 1 / 3), ((0, 1), (1, 2), 0), ((0, 4), (1, 2), 0.25), ((1, 1), (1, 1), 1), ((1, 1), (2, 2), 0)],
)
def test_tiou_of_known_pairs(first, second, expected):
    assert tiou(Segment(*first), Segment(*second)) == pytest.approx(expected)
    assert tiou_matrix(np.array([first], float), np.array([second], float))[0, 0] == pytest.approx(expected)


@given(st.lists(segments, max_size=5), st.lists(segments, max_size=5))
def test_the_matrix_agrees_with_the_pairs(first, second):
    matrix = tiou_matrix(as_array(first), as_array(second))
    assert matrix.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert matrix[i, j] == pytest.approx(tiou(a, b), abs=1e-12)


def test_no_segments_make_an_empty_array():
    assert as_array([]).shape == (0, 2)
