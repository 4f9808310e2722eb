"""Means of comparable activations on a common clock, and fused detections, by hand."""

import numpy as np
import pytest

from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection, as_array
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import MemberActivations, comparable, fuse, mean_activations, typical_best
from wtal.models.localization.signals import Activations
from wtal.models.localization.suppression import nms


def activations(seed, length, classes=2, background=True, attention=True):
    rng = np.random.default_rng(seed)
    return Activations(
        rng.standard_normal((length, classes + background)).astype(np.float32),
        rng.random(length, dtype=np.float32) if attention else None,
        rng.random(classes, dtype=np.float32),
    )


def test_each_is_squashed_as_its_own_localization_does():
    said = activations(0, 7)
    logits = said.cas.astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shown = logits[:, :2]
    by_class = (shown - shown.min(axis=0)) / (shown.max(axis=0) - shown.min(axis=0))
    by_video = (shown - shown.min()) / (shown.max() - shown.min())
    for config, wanted in (
        (LocalizeConfig(activation="softmax"), softmax[:, :2]),
        (LocalizeConfig(activation="sigmoid"), 1 / (1 + np.exp(-shown))),
        (LocalizeConfig(activation="none", range="class"), by_class),
        (LocalizeConfig(activation="none", range="video"), by_video),
        (LocalizeConfig(activation="none", range="none"), by_video),
    ):
        made = comparable(said, config)
        np.testing.assert_allclose(made.cas, wanted, atol=1e-6)
        assert made.attention is said.attention
        assert made.video_scores is said.video_scores


def test_a_stream_that_is_looked_at_alone_is_what_counts():
    flow = activations(1, 5)
    both = Activations(
        *(getattr(activations(0, 5), name) for name in ("cas", "attention", "video_scores")), {"flow": flow}
    )
    alone = comparable(both, LocalizeConfig(streams="flow", activation="softmax"))
    np.testing.assert_array_equal(alone.attention, flow.attention)
    np.testing.assert_array_equal(comparable(both, LocalizeConfig(streams="union")).attention, both.attention)


def test_means_are_those_by_hand_on_the_finest_grid():
    fine, coarse = SnippetGrid(25, 96, 8, 24), SnippetGrid(30, 116, 16, 16)
    one, two = (
        activations(0, fine.num_snippets, background=False),
        activations(1, coarse.num_snippets, background=False),
    )
    silent = activations(2, coarse.num_snippets, background=False, attention=False)
    answers = [
        MemberActivations(two, coarse, 0.5),
        MemberActivations(one, fine, 0.25),
        MemberActivations(silent, coarse, 0.25),
    ]
    made, grid = mean_activations(answers)
    assert grid == fine

    def there(values):
        return np.interp(fine.centers(), coarse.centers(), values.astype(np.float64))

    for c in range(2):
        wanted = 0.5 * there(two.cas[:, c]) + 0.25 * one.cas[:, c] + 0.25 * there(silent.cas[:, c])
        np.testing.assert_allclose(made.cas[:, c], wanted, atol=1e-6)
    np.testing.assert_allclose(made.attention, (2 * there(two.attention) + one.attention) / 3, atol=1e-6)
    scores = 0.5 * two.video_scores + 0.25 * one.video_scores + 0.25 * silent.video_scores
    np.testing.assert_allclose(made.video_scores, scores, atol=1e-6)
    assert mean_activations([MemberActivations(silent, coarse, 1.0)])[0].attention is None


def test_the_mean_of_equals_is_each_of_them():
    grid, said = SnippetGrid(25, 80, 16, 16), activations(3, 5, background=False)
    made, _ = mean_activations([MemberActivations(said, grid, 1 / 3)] * 3)
    np.testing.assert_allclose(made.cas, said.cas, rtol=1e-6)


def test_what_several_found_comes_first_and_is_where_they_agree():
    config = LocalizeConfig(suppression="fusion", nms_tiou=0.5)
    one = [Detection(10, 20, "run", 0.6), Detection(50, 60, "run", 0.8)]
    two = [Detection(12, 22, "run", 0.3), Detection(12, 22, "jump", 0.5)]
    best, alone, other = fuse([one, two], [1, 1], config)
    assert (best.label, best.score) == ("run", pytest.approx(0.45))
    assert (best.start, best.end) == (pytest.approx(10 + 2 / 3), pytest.approx(20 + 2 / 3))
    assert (alone.label, alone.start, alone.end, alone.score) == ("run", 50, 60, pytest.approx(0.4))
    assert (other.label, other.score) == ("jump", pytest.approx(0.25))
    assert fuse([one, two], [3, 1], config)[0].start == 50
    assert fuse([[], []], [1, 1], config) == []
    assert len(fuse([one, two], [1, 1], config.model_copy(update={"max_detections": 2}))) == 2


def test_what_suppression_takes_for_overlap_is_support_too():
    found = [[Detection(0, 10, "run", 0.9)], [Detection(2, 5, "run", 0.8)]]
    (one,) = fuse(found, [1, 1], LocalizeConfig(suppression="fusion", nms_tiou=0.5, overlap="lower"))
    assert one.score == pytest.approx((0.9 + 0.8) / 2)
    below = [[Detection(0, 10, "run", -0.4)], [Detection(0, 10, "run", -0.6)]]
    assert fuse(below, [1, 1], LocalizeConfig(suppression="fusion", nms_tiou=0.5))[0].score == pytest.approx(-0.5)
    apart = fuse(found, [1, 1], LocalizeConfig(suppression="fusion", nms_tiou=0.5))
    assert [round(one.score, 6) for one in apart] == [0.45, 0.4]


@pytest.mark.parametrize("seed", range(4))
def test_hard_fusion_is_suppression_of_the_pool(seed):
    rng = np.random.default_rng(seed)
    found = [
        [
            Detection(start, start + length, str(rng.choice(["a", "b"])), float(score))
            for start, length, score in zip(rng.random(20) * 50, rng.random(20) * 20 + 1, rng.random(20), strict=True)
        ]
        for _ in range(3)
    ]
    made = fuse(found, [1, 1, 1], LocalizeConfig(suppression="hard", nms_tiou=0.4))
    wanted = []
    for label in ("a", "b"):
        pool = [one for some in found for one in some if one.label == label]
        wanted += [pool[i] for i in nms(as_array(pool), np.array([one.score for one in pool]), 0.4)]
    assert made == sorted(wanted, key=lambda one: -one.score)


def test_the_typical_best_is_a_median_over_videos():
    def of(*scores):
        return [Detection(0, 1, "run", score) for score in scores]

    assert typical_best([of(1, 5), of(2), of(3), of()]) == 3
    assert typical_best([]) == typical_best([of(-1), of(-2)]) == 1
