"""Separate judgement of each video."""

import numpy as np
import pytest

from wtal.data.segments import Annotation, Detection
from wtal.eval import evaluate_detections
from wtal.eval.diagnosis.per_video import judge_videos


def test_average_precision_of_a_video_ranks_all_its_classes_together():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "jump")], "b": [Annotation(0, 4, "run")], "c": []}
    found = {
        "a": [Detection(0, 10, "run", 0.9), Detection(50, 60, "jump", 0.8), Detection(20, 29, "jump", 0.7)],
        "c": [Detection(0, 1, "run", 0.5)],
        "elsewhere": [Detection(0, 1, "run", 0.5)],
    }
    made = judge_videos(truth, found, (0.5, 0.95), tiou=0.5)
    assert list(made) == ["a", "b", "c"]
    # At 0.5 hits at ranks 1 and 3 of two annotations; at 0.95 the first alone.
    assert made["a"].ap == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert made["a"].recalled == (True, True)
    assert made["a"].outcomes == ("true positive", "background", "true positive")
    assert [one.score for one in made["a"].detections] == [0.9, 0.8, 0.7]
    assert (made["b"].ap, made["b"].missed) == (0.0, (Annotation(0, 4, "run"),))
    assert made["c"].ap is None
    assert made["c"].wrong == ((Detection(0, 1, "run", 0.5), "background"),)


def test_with_one_class_a_video_is_judged_as_a_file_of_its_own():
    rng = np.random.default_rng(0)
    truth, found = {}, {}
    for name in "abcdef":
        starts = np.cumsum(rng.integers(5, 15, 4))
        truth[name] = [Annotation(float(s), float(s + 4), "run") for s in starts]
        near = [(s + rng.normal(0, 1), s + 4 + rng.normal(0, 1)) for s in starts for _ in range(3)]
        found[name] = [Detection(*sorted((max(0, s), max(0, e))), "run", float(rng.random())) for s, e in near]
    made = judge_videos(truth, found, (0.3, 0.5, 0.7), tiou=0.5)
    for name in truth:
        alone = evaluate_detections({name: truth[name]}, {name: found[name]}, (0.3, 0.5, 0.7))
        assert made[name].ap == pytest.approx(alone.average)
        assert sum(made[name].recalled) == made[name].outcomes.count("true positive")
