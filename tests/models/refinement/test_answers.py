"""A teacher's proposals, scored by a student."""

import numpy as np
import pytest

from wtal.data.segments import Detection
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement import answers
from wtal.models.refinement.answers import Candidates, scored_by_student, segments_of
from wtal.models.refinement.config import RefineConfig

CLASSES = ("run", "jump")
SOFT = LocalizeConfig(suppression="soft", soft_sigma=0.5, overlap="tiou", max_detections=200)
FREE = SOFT.model_copy(update={"suppression": "none"})
HALF = RefineConfig(score_power=0.5, border_share=0.0)


def candidates(*rows):
    borders, classes, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Candidates(
        np.array(borders, dtype=np.float64).reshape(-1, 2),
        np.array(classes, dtype=np.int64),
        np.array(scores, dtype=np.float64),
    )


def test_a_score_is_the_geometric_mean_of_teacher_and_support():
    proposals = [Detection(0, 10, "run", 0.25), Detection(0, 8, "run", 0.25), Detection(0, 10, "jump", 0.81)]
    student = candidates(((0, 10), 0, 0.64), ((0, 5), 0, 1.0), ((0, 10), 1, 0.04))
    scored = {(d.end, d.label): d.score for d in scored_by_student(proposals, student, CLASSES, FREE, HALF)}
    assert scored == pytest.approx(
        {(10, "run"): 0.5 * 0.8, (10, "jump"): 0.9 * 0.2, (8, "run"): 0.5 * (0.64 * 0.8**2) ** 0.5}
    )
    (first, *_) = scored_by_student(proposals, student, CLASSES, FREE, HALF.model_copy(update={"score_power": 0.0}))
    assert (first.label, first.score) == ("jump", pytest.approx(0.81))


def test_without_a_share_borders_stay_the_teachers_and_the_best_is_first():
    proposals = [Detection(0, 10, "run", 0.9), Detection(2, 6, "run", 0.5)]
    student = candidates(((2.1, 6.1), 0, 0.9))
    scored = scored_by_student(proposals, student, CLASSES, SOFT, HALF)
    assert [(d.start, d.end) for d in scored] == [(2, 6), (0, 10)]
    assert scored[0].score > scored[1].score > 0


def test_borders_move_by_a_share_towards_the_mean_of_the_student():
    student = candidates(((1, 9), 0, 0.5), ((0, 10), 0, 0.5), ((50, 60), 0, 0.9), ((2, 8), 1, 0.9))
    shared = HALF.model_copy(update={"border_share": 0.5, "border_tiou": 0.7})
    (moved,) = scored_by_student([Detection(0, 10, "run", 0.9)], student, CLASSES, SOFT, shared)
    mean = 0.8 * 1 / (0.8 + 1.0)  # weights: score times overlap
    assert (moved.start, moved.end) == pytest.approx((mean / 2, 10 - mean / 2))
    narrow = shared.model_copy(update={"border_tiou": 1.0})
    (same,) = scored_by_student([Detection(0, 10.5, "run", 0.9)], student, CLASSES, SOFT, narrow)
    assert (same.start, same.end) == (0, 10.5)


def test_segments_of_a_student_are_suppressed_by_class():
    student = candidates(((0, 10), 0, 0.5), ((0, 10), 0, 0.4), ((0, 10), 1, 0.3), ((5, 5), 1, 0.9))
    found = segments_of(student, CLASSES, SOFT.model_copy(update={"suppression": "hard", "nms_tiou": 0.5}))
    assert [(d.label, d.score) for d in found] == [("run", 0.5), ("jump", 0.3)]


def test_what_the_student_does_not_support_is_no_detection():
    proposals = [Detection(0, 10, "run", 0.9), Detection(20, 30, "run", 0.9), Detection(0, 10, "jump", 0.9)]
    scored = scored_by_student(proposals, candidates(((1, 9), 0, 0.5)), CLASSES, SOFT, HALF)
    assert [(d.start, d.label) for d in scored] == [(0, "run")]
    assert scored_by_student(proposals, candidates(), CLASSES, SOFT, HALF) == []
    assert scored_by_student([], candidates(((1, 9), 0, 0.5)), CLASSES, SOFT, HALF) == []


def test_many_pairs_are_compared_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    starts, lengths = rng.uniform(0, 90, 300), rng.uniform(1, 10, 300)
    proposals = [
        Detection(float(start), float(start + length), CLASSES[i % 2], 0.5)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]
    rows = [((d.start + 0.5, d.end + 0.3), i % 2, 0.1 + 0.8 * i / 300) for i, d in enumerate(proposals)]
    whole = scored_by_student(proposals, candidates(*rows), CLASSES, FREE, HALF)
    monkeypatch.setattr(answers, "_PAIRS", 1000)
    assert scored_by_student(proposals, candidates(*rows), CLASSES, FREE, HALF) == whole
    assert len(whole) == 200
