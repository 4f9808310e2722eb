"""Paired intervals over resampled videos."""

import numpy as np
import pytest

from tests.support.judged import twelve_videos
from wtal.data.segments import Segment
from wtal.errors import UsageError
from wtal.eval import compare_detections, evaluate_detections


@pytest.fixture
def collection():
    return twelve_videos()


def test_intervals_are_repeatable_and_paired(collection):
    truth, good, poor = collection
    made = compare_detections(truth, good, poor, (0.5, 0.7), draws=200)
    assert made == compare_detections(truth, good, poor, (0.5, 0.7), draws=200)
    assert made != compare_detections(truth, good, poor, (0.5, 0.7), draws=200, seed=1)
    assert [*made.figures] == ["0.5", "0.7", "average"]
    for name, file in (("first", good), ("second", poor)):
        whole = evaluate_detections(truth, file, (0.5, 0.7))
        assert getattr(made.figures["0.5"], name).value == pytest.approx(whole.mAP[0.5])
    gap = made.figures["average"]
    assert gap.difference.low <= gap.difference.value <= gap.difference.high
    assert gap.difference.low > 0
    assert gap.ahead == 1
    back = compare_detections(truth, poor, good, (0.5, 0.7), draws=200).figures["average"]
    assert back.difference.low == pytest.approx(-gap.difference.high)
    assert back.ahead == 0
    same = compare_detections(truth, good, good, (0.5, 0.7), draws=20).figures["average"]
    assert (same.difference.low, same.difference.high, same.ahead) == (0, 0, 0.5)


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14-kit", "snippet"])
def test_a_video_that_is_drawn_twice_is_two_videos(protocol, collection, monkeypatch):
    truth, good, poor = collection
    unsure = {"video-03": [Segment(0, 90)], "video-04": [Segment(60, 90)]}
    weights = np.array([2, 0, 1, 3, 1, 1, 0, 1, 2, 0, 1, 1])
    monkeypatch.setattr("wtal.eval.bootstrap._weights", lambda *_: iter([weights]))
    drawn = compare_detections(truth, good, poor, (0.5,), protocol, unsure, draws=1).figures["0.5"]
    copies = [(name, f"{name}/{i}") for name, count in zip(truth, weights, strict=True) for i in range(count)]

    def repeated(videos):
        return {copy: videos[name] for name, copy in copies if name in videos}

    for estimate, file in ((drawn.first, good), (drawn.second, poor)):
        whole = evaluate_detections(repeated(truth), repeated(file), (0.5,), protocol, repeated(unsure))
        assert estimate.low == estimate.high == pytest.approx(whole.average)


@pytest.mark.parametrize(("draws", "confidence"), [(0, 0.9), (10, 1.0)])
def test_draws_that_make_no_interval_are_refused(draws, confidence, collection):
    with pytest.raises(UsageError, match="at least one draw"):
        compare_detections(*collection, draws=draws, confidence=confidence)
