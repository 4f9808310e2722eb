"""Video-level labels, by hand."""

import pytest

from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval import evaluate_labels
from wtal.eval.classification import best_scores


def test_labels_by_hand():
    labels = {"a": ["run"], "b": ["run", "jump"], "c": ["jump"], "d": []}
    scores = {"a": {"run": 0.9, "jump": 0.8}, "b": {"run": 0.2, "fly": 1.0}, "d": {"run": 0.5, "jump": 0.1}}
    made = evaluate_labels(labels, scores)
    assert made.ap == {"jump": 0, "run": pytest.approx((1 + 2 / 3) / 2)}
    assert made.mAP == pytest.approx(5 / 12)
    assert made.hit_at == {1: pytest.approx(1 / 3), 3: pytest.approx(2 / 3), 5: pytest.approx(2 / 3)}
    assert set(made.to_json()) == {"mAP", "hit@", "ap"}
    late = {"a": {"run": 0.1}, "b": {"run": 0.2}, "d": {"run": 0.5}}
    assert evaluate_labels(labels, late).ap["run"] == pytest.approx(2 / 3)
    assert evaluate_labels(labels, late, interpolated=False).ap["run"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert evaluate_labels(labels, {}).mAP == 0
    with pytest.raises(UsageError, match="no video has a label to score against"):
        evaluate_labels({"a": []}, scores)
    with pytest.raises(UsageError, match="finite, got inf"):
        evaluate_labels(labels, {"a": {"run": float("inf")}})


def test_the_best_score_of_each_label_stands_for_the_video():
    found = {"a": [Detection(0, 1, "run", -2), Detection(3, 4, "run", -1), Detection(0, 1, "jump", 3)], "b": []}
    assert best_scores(found) == {"a": {"run": -1, "jump": 3}, "b": {}}
