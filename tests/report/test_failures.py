"""Tables of failures, and their nearest neighbours."""

from wtal.data.segments import Annotation, Detection
from wtal.eval.diagnosis.per_video import judge_videos, nearest
from wtal.report.failures import missed_annotations, surest_false_positives, worst_videos


def test_the_nearest_of_a_class():
    others = [Detection(0, 10, "run", 1), Detection(0, 5, "run", 1), Detection(0, 4, "jump", 1)]
    assert nearest(Annotation(0, 5, "run"), others, own=True) == (1.0, "run")
    assert nearest(Annotation(0, 5, "run"), others, own=False) == (0.8, "jump")
    assert nearest(Annotation(20, 25, "run"), others, own=True) == (0.0, "")


def test_tables_of_failures():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "jump")], "b": [Annotation(0, 4, "run")]}
    found = {"a": [Detection(40, 50, "run", 0.9), Detection(0, 9, "run", 0.5)], "b": [Detection(0, 4, "run", 0.4)]}
    evaluations = judge_videos(truth, found, (0.5,), tiou=0.5)
    worst = worst_videos(evaluations, 0.5).rows
    assert list(worst) == ["a", "b"]
    assert worst["a"]["what went wrong"] == "misses 1 jump; ranks false positives first: 1 background"
    assert worst["b"]["what went wrong"] == "nothing"
    assert worst["a"]["nearest"] == "0.45"
    (row,) = surest_false_positives(evaluations, 0.5).rows.values()
    assert (row["seconds"], row["error"], row["overlaps"]) == ("40.0 to 50.0", "background", "-")
    missed = missed_annotations(evaluations, {"a": {"jump": 0.125}, "b": {}}, 0.5).rows
    assert missed["1. a"]["video score"] == "0.125"
    assert missed["1. a"]["nearest of its class"] == "tIoU 0.00"
