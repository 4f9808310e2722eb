"""Watershed, a second signal, single and pooled streams, scores of several papers: against slow and plain versions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.signals import columns_of
from wtal.data.grid import SnippetGrid
from wtal.errors import ConfigError, UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize
from wtal.models.localization.proposals import contrast, grouped_runs, maximal_runs
from wtal.models.localization.signals import Activations
from wtal.models.localization.suppression import nms, overlaps

CLASSES = ("dive", "jump")
GRID = SnippetGrid(Fraction(1), 20, Fraction(1), 1)
PLAIN = {"activation": "none", "range": "none", "upsample": 1, "threshold_start": 0.5, "threshold_stop": 0.6}
PLAIN |= {"threshold_step": 1.0, "class_threshold": 0.1, "video_weight": 0.0, "outer_weight": 0.0}


def activations(rows, scores=(1.0, 0.0), attention=None, streams=None):
    cas = np.zeros((20, 2), dtype=np.float32)
    for start, end, value in rows:
        cas[start:end, 0] = value
    attention = None if attention is None else np.array(attention, dtype=np.float32)
    return Activations(cas, attention, np.array(scores, dtype=np.float32), streams or {})


def found(made, **config):
    return [
        (d.start, d.end, round(d.score, 6))
        for d in localize(made, GRID, CLASSES, LocalizeConfig(**{**PLAIN, **config}))
    ]


def slow_watershed(signal, thresholds, tolerances):
    """Group step by step from basin to basin, forwards from each start, backwards from each end."""
    boxes = set()
    for threshold in thresholds:
        above = [value > threshold for value in signal]
        basins = [tuple(run) for run in maximal_runs(columns_of(signal), np.array([threshold])).tolist()]
        for tolerance in tolerances:
            for i, (start, end) in enumerate(basins):
                last = end
                for later, later_end in basins[i + 1 :]:
                    gaps = sum(not one for one in above[start:later])
                    if gaps / (later - start) > tolerance + 1e-9:
                        break
                    last = later_end
                boxes.add((start, last))
                first = start
                for earlier, earlier_end in reversed(basins[:i]):
                    gaps = sum(not one for one in above[earlier_end:end])
                    if gaps / (end - earlier_end) > tolerance + 1e-9:
                        break
                    first = earlier
                boxes.add((first, end))
    return sorted(boxes)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_watershed_is_the_procedure_step_by_step(levels):
    signal, tolerances = np.array(levels) / 4.0, (0.0, 0.2, 0.4, 0.6, 1.0)
    thresholds = np.array([0.1, 0.4, 0.6])
    boxes = grouped_runs(columns_of(signal), thresholds, tolerances)
    assert [tuple(box) for box in boxes.tolist()] == slow_watershed(signal.tolist(), thresholds, tolerances)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
def test_without_tolerance_watershed_leaves_runs(values):
    columns, thresholds = columns_of(np.array(values)), np.array([0.2, 0.5])
    assert grouped_runs(columns, thresholds, (0.0,)).tolist() == maximal_runs(columns, thresholds).tolist()


def test_watershed_joins_over_a_gap_in_detections():
    made = activations([(2, 6, 1.0), (7, 11, 1.0)])
    assert [d[:2] for d in found(made)] == [(2.0, 6.0), (7.0, 11.0)]
    joined = found(made, grouping="watershed", tolerances=(0.0, 0.3), nms_tiou=1.0)
    assert (2.0, 11.0) in [d[:2] for d in joined]


def test_a_threshold_below_everything_makes_the_whole_video_one_proposal():
    made = activations([(0, 20, 0.4), (5, 9, 0.8)])
    config = {"threshold_start": 0.0, "threshold_stop": 0.1, "outer_weight": 1.0}
    assert found(made, **config) == [(0.0, 20.0, pytest.approx(0.48))]  # nothing is outside, so nothing is subtracted


def test_contrast_by_equation_twelve():
    signal = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.9, 0.3, 0.1])
    (score,) = contrast(columns_of(signal), np.array([[2, 6]]), 0.25, 1.0)
    inside = (0.9 + 0.8 + 0.7 + 0.9) / 4
    assert score == pytest.approx(inside - (0.2 + 0.3) / 2)


@pytest.mark.parametrize("run", [(2, 6), (0, 8), (5, 8), (7, 8)])
def test_the_highest_inside(run):
    signal = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.95, 0.3, 0.6])
    (score,) = contrast(columns_of(signal), np.array([run]), 0.25, 0.0, "max")
    assert score == signal[slice(*run)].max()


def test_thresholds_may_be_listed_and_proposals_scored_on_their_sum():
    made = activations([(2, 6, 0.3), (8, 11, 0.6), (14, 16, 0.9)])
    config = {"inner": "total", "max_detections": 9}
    assert found(made, thresholds=(0.8, 0.5), **config) == [
        (8.0, 11.0, pytest.approx(1.8)),
        (14.0, 16.0, pytest.approx(1.8)),
    ]
    assert found(made, **config) == found(made, thresholds=(0.5,), **config)


def test_a_second_signal_proposes_too_and_is_scored_as_the_first():
    attention = np.zeros(20)
    attention[10:15] = 1.0
    made = activations([(2, 6, 1.0), (10, 15, 0.3)], attention=attention)
    assert [d[:2] for d in found(made)] == [(2.0, 6.0)]
    second = found(made, second_signal="attention", second_start=0.5, second_stop=0.6, second_step=1.0)
    assert second == [(2.0, 6.0, 1.0), (10.0, 15.0, pytest.approx(0.3))]


def test_overlap_of_the_lower_scored():
    long, short = np.array([0.0, 10.0]), np.array([[4.0, 6.0], [8.0, 12.0]])
    assert overlaps(long, short, "lower").tolist() == [1.0, 0.5]
    assert overlaps(long, short, "tiou") == pytest.approx([0.2, 2 / 12])
    borders, scores = np.array([[0.0, 10.0], [4.0, 6.0]]), np.array([2.0, 1.0])
    assert nms(borders, scores, 0.5, "lower").tolist() == [0]
    assert nms(borders, scores, 0.5, "tiou").tolist() == [0, 1]
    assert nms(borders, scores[::-1], 0.5, "lower").tolist() == [1, 0]  # a fifth of the long one is covered


def two_streams():
    rgb = activations([(2, 6, 1.0)], scores=(0.9, 0.0))
    flow = activations([(3, 7, 0.8), (12, 16, 0.8)], scores=(0.8, 0.0))
    return activations([(2, 7, 0.9)], streams={"rgb": rgb, "flow": flow})


def test_streams_alone_fused_and_pooled():
    made = two_streams()
    assert [d[:2] for d in found(made)] == [(2.0, 7.0)]
    assert [d[:2] for d in found(made, streams="rgb")] == [(2.0, 6.0)]
    assert [d[:2] for d in found(made, streams="flow")] == [(3.0, 7.0), (12.0, 16.0)]
    pooled = found(made, streams="union")
    assert pooled == [(2.0, 6.0, 1.0), (3.0, 7.0, pytest.approx(0.8)), (12.0, 16.0, pytest.approx(0.8))]
    assert [d[:2] for d in found(made, streams="union", union_tiou=0.5)] == [(2.0, 6.0), (12.0, 16.0)]
    with pytest.raises(
        UsageError, match=r"the head has no stream 'flwo'; did you mean 'flow'\? choices: flow, fused, rgb"
    ):
        found(made, streams="flwo")


def test_the_streams_of_a_union_are_weighed():
    pooled = found(two_streams(), streams="union", stream_weights={"rgb": 0.1}, union_tiou=0.5)
    assert pooled == [(3.0, 7.0, pytest.approx(0.8)), (12.0, 16.0, pytest.approx(0.8))]


def test_the_streams_of_a_union_score_one_another():
    pooled = {d[:2]: d[2] for d in found(two_streams(), streams="union", stream_mix=0.5)}
    assert pooled[2.0, 6.0] == pytest.approx(0.5 * 1.0 + 0.5 * (3 * 0.8 / 4))
    assert pooled[12.0, 16.0] == pytest.approx(0.4)


def test_a_union_of_one_answer_is_that_answer():
    made = activations([(2, 6, 1.0)])
    assert found(made, streams="union") == found(made)


def test_classes_may_be_chosen_by_their_highest_activations():
    made = activations([(2, 6, 4.0)], scores=(0.6, 0.4))
    config = {"class_from": "cas", "class_top_ratio": 5, "class_threshold": 0.0, "video_weight": 0.7, "inner": "max"}
    ((_, _, score),) = found(made, **config)
    assert score == pytest.approx(4.0 + 0.7 * 4.0)  # the four highest of twenty
    negative = activations([(0, 20, -1.0)], scores=(0.6, 0.4))
    assert found(negative, **config) == []


def test_scores_are_multiplied_by_a_power_of_the_video_score():
    config = {"class_from": "cas", "class_top_ratio": 5, "class_threshold": -9.0, "inner": "max"}
    ((_, _, score),) = found(activations([(2, 6, 4.0)]), **config, video_power=0.5)
    assert score == pytest.approx(4.0 * 2.0)
    # A negative score has no real root.
    assert [d[2] for d in found(activations([(0, 20, -1.0)]), **config, video_power=0.5)] == []
    for power in (-1e9, -1.0, 11.0):
        with pytest.raises(ConfigError, match="video_power: wanted a number from 0 to 10"):
            LocalizeConfig.parse({"video_power": power})


def test_a_class_that_a_video_does_not_show_is_not_chosen_by_activations():
    made = activations([(2, 6, 4.0)], scores=(0.0, 0.4))
    assert found(made, class_from="cas", class_threshold=0.0) == []


def test_wrong_settings_are_refused():
    for settings_ in ({"grouping": "flood"}, {"tolerances": ()}, {"overlap": "both"}, {"inner": "sum"}):
        with pytest.raises(ConfigError):
            LocalizeConfig.parse(settings_)
