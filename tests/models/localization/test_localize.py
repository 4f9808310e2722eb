"""Localization against plain loops, and its laws."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.signals import columns_of
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Segment, tiou
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize, localize_many
from wtal.models.localization.proposals import contrast, maximal_runs
from wtal.models.localization.signals import Activations, select_classes, upsample
from wtal.models.localization.suppression import nms, suppress

CLASSES = ("dive", "jump")
signals = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).map(np.array)


def grid_of(snippets):
    return SnippetGrid(Fraction(25), snippets * 16, Fraction(16), 16)


def naive_runs(signal, thresholds):
    found = set()
    for threshold in thresholds:
        start = None
        for i, value in enumerate([*signal, -np.inf]):
            if value > threshold and start is None:
                start = i
            elif value <= threshold and start is not None:
                found.add((start, i))
                start = None
    return sorted(found)


@given(signals, st.lists(st.floats(0, 1), min_size=1, max_size=5).map(np.array))
def test_runs_equal_a_plain_scan(signal, thresholds):
    runs = maximal_runs(columns_of(signal), np.sort(thresholds))
    assert [tuple(run) for run in runs] == naive_runs(signal, thresholds)


@given(signals, st.data())
def test_contrast_equals_its_definition(signal, data):
    start = data.draw(st.integers(0, len(signal) - 1))
    end = data.draw(st.integers(start + 1, len(signal)))
    ring = max(1, int(0.25 * (end - start)))
    outside = np.concatenate([signal[max(0, start - ring) : start], signal[end : end + ring]])
    expected = signal[start:end].mean() - 0.6 * (outside.mean() if len(outside) else 0.0)
    found = contrast(columns_of(signal), np.array([[start, end]]), 0.25, 0.6)
    assert found[0] == pytest.approx(expected, abs=1e-9)


boxes = st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 20), st.floats(0, 1)), min_size=0, max_size=25).map(
    lambda rows: (np.array([(s, s + d) for s, d, _ in rows]).reshape(-1, 2), np.array([p for *_, p in rows]))
)


@given(boxes, st.floats(0.1, 0.9))
def test_hard_suppression_equals_a_plain_loop_and_is_idempotent(made, limit):
    borders, scores = made
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(tiou(Segment(*borders[i]), Segment(*borders[j])) <= limit for j in kept):
            kept.append(int(i))
    found = nms(borders, scores, limit)
    assert list(found) == kept
    assert list(nms(borders[found], scores[found], limit)) == list(range(len(found)))


@given(boxes)
def test_soft_suppression_keeps_all_and_only_lowers(made):
    borders, scores = made
    group = np.zeros(len(scores), np.int64)
    order, _, decayed = suppress(borders, scores, group, "soft", 1.0, soft_sigma=0.3, max_detections=100)
    assert sorted(order) == list(range(len(scores)))
    assert (decayed <= scores[order] + 1e-12).all()
    assert (np.diff(decayed) <= 1e-12).all()


def test_upsampling_is_centred_on_snippets():
    values = np.array([[0.0], [1.0], [3.0]])
    fine = upsample(values, 4)[:, 0]
    assert len(fine) == 12
    assert fine[0] == fine[1] == 0.0
    assert fine[-1] == 3.0
    # The middle of a snippet is between its second and third position.
    assert fine[5:7].mean() == pytest.approx(1.0, abs=0.13)
    assert (np.diff(fine) >= 0).all()


def test_a_clear_action_is_found_where_it_is():
    cas = np.full((40, 3), -3.0, dtype=np.float32)
    cas[10:20, 1] = 3.0
    config = LocalizeConfig(threshold_stop=0.95, threshold_step=0.05)
    found = localize(Activations(cas, None, np.array([0.1, 0.9], np.float32)), grid_of(40), CLASSES, config)
    assert {detection.label for detection in found} == {"jump"}
    assert tiou(found[0], Segment(6.4, 12.8)) > 0.95
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_no_segment_leaves_the_video():
    cas = np.ones((5, 3), dtype=np.float32)
    cas[4] = 2
    grid = SnippetGrid(Fraction(25), 70, Fraction(16), 16)
    assert grid.num_snippets == 5
    found = localize(Activations(cas, None, np.ones(2, np.float32)), grid, CLASSES, LocalizeConfig())
    assert found
    assert all(0 <= d.start < d.end <= grid.duration for d in found)


@pytest.mark.parametrize("snippets", [0, 1])
def test_nothing_and_one_snippet(snippets):
    grid = SnippetGrid(Fraction(25), 10, Fraction(16), 16, tail="pad" if snippets else "drop")
    cas = np.ones((snippets, 3), np.float32)
    found = localize(Activations(cas, None, np.ones(2, np.float32)), grid, CLASSES, LocalizeConfig(range="none"))
    assert len(found) == (2 if snippets else 0)


def test_classes_below_the_threshold_fall_back_to_the_best():
    scores = np.array([0.1, 0.2, 0.15])
    assert select_classes(scores, LocalizeConfig(class_threshold=0.5)) == [1]
    assert select_classes(scores, LocalizeConfig(class_threshold=0.5, fallback=False)) == []
    assert select_classes(scores, LocalizeConfig(class_threshold=0.0, max_classes=2)) == [1, 2]


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from(["cas", "attention", "product"]), st.sampled_from(["hard", "soft"]))
def test_every_setting_gives_finite_ordered_detections(snippets, signal, suppression):
    rng = np.random.default_rng(snippets)
    made = Activations(
        rng.standard_normal((snippets, 3)).astype(np.float32),
        rng.random(snippets).astype(np.float32),
        rng.random(2).astype(np.float32),
    )
    for activation in ("none", "softmax", "sigmoid"):
        for stretch in ("none", "video", "class"):
            config = LocalizeConfig(
                signal=signal, suppression=suppression, activation=activation, range=stretch, smooth=0.7
            )
            found = localize(made, grid_of(snippets), CLASSES, config)
            assert all(np.isfinite(d.score) for d in found)
            assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_what_is_scored_may_keep_its_own_scale():
    cas = np.zeros((12, 1), dtype=np.float32)
    cas[4:8] = 9.0
    activations = Activations(cas, None, np.array([0.5], dtype=np.float32))
    settings = {"threshold_start": 0.5, "threshold_stop": 0.6, "upsample": 1, "inner": "max", "outer_weight": 0.0}
    found = {
        score_range: localize(
            activations, grid_of(12), ("dive",), LocalizeConfig(**settings, video_weight=0.7, score_range=score_range)
        )
        for score_range in ("same", "none")
    }
    assert [one.score for one in found["none"]] == [pytest.approx(9.35)]
    assert [one.score for one in found["same"]] == [pytest.approx(1.35)]
    assert [(one.start, one.end) for one in found["none"]] == [(one.start, one.end) for one in found["same"]]


def test_factors_may_be_upsampled_before_their_product():
    cas = np.array([[0.0], [1.0], [0.0]], dtype=np.float32)
    attention = np.array([0.0, 1.0, 0.0], dtype=np.float32)
    activations = Activations(cas, attention, np.ones(1, dtype=np.float32))
    # Half way up to the middle, one is linear and the other its square.
    ends = {}
    for first in (False, True):
        config = LocalizeConfig(
            signal="product", range="none", upsample=8, threshold_start=0.3, threshold_stop=0.4, upsample_factors=first
        )
        (ends[first],) = localize(activations, grid_of(3), ("dive",), config)
    assert ends[True].start > ends[False].start
    assert ends[True].end < ends[False].end


def random_video(rng, snippets, streams):
    cas = (2 * rng.standard_normal((snippets, 4))).astype(np.float32)
    alone = {name: random_video(rng, snippets, ())[0] for name in streams}
    attention = rng.random(snippets).astype(np.float32)
    return Activations(np.round(cas), attention, rng.random(3).astype(np.float32), alone), grid_of(max(snippets, 1))


CHOICES = {
    "signal": ["cas", "attention", "product"],
    "score_signal": ["signal", "cas"],
    "activation": ["none", "softmax"],
    "range": ["none", "video", "class"],
    "upsample": [1, 3],
    "upsample_factors": [False, True],
    "threshold_stop": [0.11, 0.95],
    "second_signal": ["none", "attention"],
    "grouping": ["runs", "watershed"],
    "class_threshold": [0.0, 0.5],
    "suppression": ["hard", "soft", "linear", "fusion"],
    "overlap": ["tiou", "lower"],
    "streams": ["fused", "union"],
    "max_detections": [3, 200],
    "quirks": [(), ("zero-below", "uneven-rings", "plus-second"), ("extra-snippet", "plus-snippet", "first-position")],
}


@settings(deadline=None, max_examples=40)
@given(st.fixed_dictionaries({key: st.sampled_from(values) for key, values in CHOICES.items()}), st.integers(0, 99))
def test_many_videos_at_once_are_each_as_alone(values, seed):
    rng = np.random.default_rng(seed)
    videos = [
        random_video(rng, int(rng.integers(0, 25)), ("rgb", "flow") if rng.random() < 0.5 else ()) for _ in range(4)
    ]
    config, classes = LocalizeConfig(**values), ("dive", "jump", "run")
    alone = [localize(*video, classes, config) for video in videos]
    assert list(localize_many(videos, classes, config)) == alone
    assert all(len(found) <= config.max_detections for found in alone)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.integers(1, 9), st.sampled_from([0.0, 0.3, 0.7]))
def test_the_best_are_the_best_of_all(seed, most, tiou_limit):
    """Examine fewer proposals if few are wanted, with the same result."""
    videos = [random_video(np.random.default_rng(seed + i), 40, ()) for i in range(3)]
    config = {"threshold_stop": 0.95, "class_threshold": 0.0, "nms_tiou": tiou_limit, "upsample": 1}
    every = localize_many(videos, ("a", "b", "c"), LocalizeConfig(**config, max_detections=10**6))
    few = localize_many(videos, ("a", "b", "c"), LocalizeConfig(**config, max_detections=most))
    assert [found[:most] for found in every] == list(few)


@given(
    st.fractions(1, 120, max_denominator=1001),
    st.integers(1, 10**6),
    st.fractions(1, 64, max_denominator=77),
    st.lists(st.integers(0, 10**6)),
    st.integers(1, 24),
)
def test_seconds_of_many_positions_are_exact(fps, frames, stride, positions, scale):
    grid = SnippetGrid(fps, frames, stride, 16)
    found = grid.seconds(np.array(positions, dtype=np.int64), scale)
    assert found.tolist() == [grid.to_segment(position, position, scale).start for position in positions]
