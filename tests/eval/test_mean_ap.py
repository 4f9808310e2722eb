import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.segments import Annotation, Detection
from wtal.errors import UsageError
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious, tiou_key

TIOUS = (0.1, 0.5, 0.75, 0.95)

spans = st.tuples(st.floats(0, 100), st.floats(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
labels = st.sampled_from(["run", "jump", "clap"])
annotations = st.builds(lambda span, label: Annotation(*span, label), spans, labels)
truths = st.dictionaries(st.sampled_from("abcd"), st.lists(annotations, max_size=5), min_size=1).filter(
    lambda truth: any(truth.values())
)


@st.composite
def tasks(draw):
    """Ground truth, and detections around and next to it with different scores."""
    truth = draw(truths)
    near = [
        (v, Detection(a.start, a.end + draw(st.floats(0, 5)), a.label, 0)) for v, found in truth.items() for a in found
    ]
    far = draw(st.lists(st.tuples(st.sampled_from("abcdz"), annotations), max_size=5))
    all_ = near + [(video, Detection(a.start, a.end, a.label, 0)) for video, a in far]
    scores = draw(st.lists(st.integers(1, 10**6), min_size=len(all_), max_size=len(all_), unique=True))
    return truth, [(v, Detection(d.start, d.end, d.label, float(s))) for (v, d), s in zip(all_, scores, strict=True)]


def by_video(pairs):
    found = {}
    for video, detection in pairs:
        found.setdefault(video, []).append(detection)
    return found


@settings(max_examples=50)
@given(truths)
def test_perfect_detections_have_ap_one(truth):
    perfect = {v: [Detection(a.start, a.end, a.label, 1.0) for a in found] for v, found in truth.items()}
    result = evaluate_detections(truth, perfect, TIOUS)
    assert all(value == pytest.approx(1) for by_tiou in result.ap.values() for value in by_tiou.values())
    assert result.average == pytest.approx(1)
    assert set(result.ap) == {a.label for found in truth.values() for a in found}


@settings(max_examples=50)
@given(tasks(), st.sampled_from("abcdz"), annotations)
def test_a_lower_scored_false_positive_never_raises_ap(task, video, stray):
    truth, pairs = task
    before = evaluate_detections(truth, by_video(pairs), TIOUS).ap
    miss = Detection(stray.start + 1000, stray.end + 1000, stray.label, 0.5)
    after = evaluate_detections(truth, by_video([*pairs, (video, miss)]), TIOUS).ap
    assert all(after[c][t] <= before[c][t] for c in before for t in TIOUS)


@settings(max_examples=50)
@given(tasks(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter_where_scores_differ(task, order: random.Random):
    truth, pairs = task
    before = evaluate_detections(truth, by_video(pairs), TIOUS)
    order.shuffle(pairs)
    assert evaluate_detections(truth, by_video(pairs), TIOUS).ap == before.ap


@settings(max_examples=60)
@given(tasks())
def test_it_equals_the_definition_written_plainly(task):
    truth, pairs = task
    result = evaluate_detections(truth, by_video(pairs), TIOUS)
    for label, by_tiou in result.ap.items():
        for tiou, value in by_tiou.items():
            assert value == pytest.approx(plain_ap(truth, pairs, label, tiou), abs=1e-12)


def plain_ap(truth, pairs, label, threshold):
    wanted = [(v, a) for v, found in truth.items() for a in found if a.label == label]
    taken, hits = set(), []
    for video, d in sorted((p for p in pairs if p[1].label == label), key=lambda p: -p[1].score):
        overlaps = []
        for i, (v, a) in enumerate(wanted):
            inter = max(0.0, min(a.end, d.end) - max(a.start, d.start))
            union = (a.end - a.start) + (d.end - d.start) - inter
            overlaps.append((inter / union if union else float(a.start == d.start), i) if v == video else (-1.0, i))
        choice = next((i for o, i in sorted(overlaps, reverse=True) if o >= threshold and i not in taken), None)
        taken.add(choice)
        hits.append(choice is not None)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / len(wanted)


def test_a_case_by_hand():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "run")], "b": [Annotation(0, 10, "run")]}
    found = {
        "a": [
            Detection(0, 10, "run", 0.9),  # hit
            Detection(1, 10, "run", 0.8),  # the same again: miss
            Detection(20, 26, "run", 0.7),  # tIoU 0.6: hit at 0.5 only
        ],
        "b": [Detection(50, 60, "run", 0.95)],  # miss, before all others
    }
    result = evaluate_detections(truth, found, [0.5, 0.7])
    assert result.ap["run"][0.5] == pytest.approx((1 / 2 + 1 / 2) / 3)
    assert result.ap["run"][0.7] == pytest.approx((1 / 2) / 3)
    assert result.mAP == result.ap["run"]
    assert result.average == pytest.approx((1 / 3 + 1 / 6) / 2)


def test_the_threshold_itself_is_a_hit():
    truth, found = {"a": [Annotation(0, 2, "run")]}, {"a": [Detection(0, 1, "run", 1)]}
    result = evaluate_detections(truth, found, [0.5, math.nextafter(0.5, 1)])
    assert list(result.mAP.values()) == [1, 0]


def test_a_detection_falls_to_the_next_best_annotation_that_is_free():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(2, 12, "run")]}
    found = {"a": [Detection(0, 10, "run", 0.9), Detection(0.5, 10, "run", 0.8)]}
    assert evaluate_detections(truth, found, [0.5]).average == 1


def test_equal_scores_keep_the_order_of_the_input():
    truth = {"a": [Annotation(0, 1, "run")]}
    hit, miss = Detection(0, 1, "run", 0.5), Detection(5, 6, "run", 0.5)
    assert evaluate_detections(truth, {"a": [hit, miss]}, [0.5]).average == 1
    assert evaluate_detections(truth, {"a": [miss, hit]}, [0.5]).average == 0.5
    assert evaluate_detections(truth, {"b": [miss], "a": [hit]}, [0.5]).average == 0.5


def test_no_detections_score_zero():
    truth = {"a": [Annotation(0, 1, "run")]}
    assert evaluate_detections(truth, {}, TIOUS).average == 0
    assert evaluate_detections(truth, {"a": []}, TIOUS).mAP == dict.fromkeys(TIOUS, 0.0)


def test_unknown_labels_are_ignored_and_unknown_videos_are_misses_and_both_are_told():
    truth = {"a": [Annotation(0, 1, "run")], "b": []}
    hit = Detection(0, 1, "run", 0.5)
    found = {
        "a": [hit, Detection(0, 1, "fly", 0.9)],
        "z": [Detection(0, 1, "run", 0.9)],
        "b": [Detection(0, 1, "run", 0.1)],
    }
    result = evaluate_detections(truth, found, [0.5])
    assert result.average == 0.5
    assert result.ignored == {"fly": 1}
    assert result.strangers == 1
    assert result.notes == (
        "detections of classes that the ground truth lacks, left out: 1 (first: 'fly')",
        "detections in videos that the ground truth lacks, false positives: 1 (first: 'z')",
    )


def test_names_that_differ_in_capitals_or_blanks_are_told():
    truth = {"Jump 01": [Annotation(0, 1, "run")], "b": [Annotation(0, 1, "High Jump")]}
    detected = {name: [Detection(0, 1, "run", 0.5)] for name in ("jump  01", "B", "c", "d")}
    detected["b"] = [Detection(0, 1, "run ", 0.5), Detection(0, 1, "HighJump", 0.5), Detection(0, 1, "fly", 0.5)]
    assert evaluate_detections(truth, detected, [0.5]).notes[:2] == (
        "detections of classes that the ground truth lacks, left out: 3 (first: 'HighJump', 'fly', 'run '); "
        "nearest names in the ground truth: 'High Jump' for 'HighJump', 'run' for 'run '",
        "detections in videos that the ground truth lacks, false positives: 4 (first: 'B', 'c', 'd'); "
        "nearest names in the ground truth: 'b' for 'B'",
    )


@pytest.mark.parametrize(
    ("truth", "found", "tious", "message"),
    [
        ({"a": []}, {}, [0.5], "no annotation to score against"),
        ({"a": [Annotation(0, 1, "run")]}, {}, [], "one or more tIoU thresholds .* got none"),
        ({"a": [Annotation(0, 1, "run")]}, {}, [0.0], "above 0 and at most 1, got 0.0"),
        ({"a": [Annotation(0, 1, "run")]}, {"z": [Detection(0, 1, "run", math.nan)]}, [0.5], "finite, got nan"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, found, tious, message):
    with pytest.raises(UsageError, match=message):
        evaluate_detections(truth, found, tious)


def test_thresholds_are_exact_decimals():
    assert parse_tious("0.1:0.9:0.1") == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert [tiou_key(t) for t in parse_tious("0.5:0.95:0.05")][::3] == ["0.5", "0.65", "0.8", "0.95"]
    assert parse_tious("0.5, 0.75") == (0.5, 0.75)
    assert parse_tious("0.1:0.3:0.1,0.2,0.5") == (0.1, 0.2, 0.3, 0.5)
    assert tiou_key(0.8999999999999999) == "0.9"


@pytest.mark.parametrize(
    "text", ["", "a", "0.5:0.9", "0.9:0.5:0.1", "0.1:0.9:0", "0.1:0.2:0.1:0.1", "0:1:1e-9", "nan", "1.5"]
)
def test_malformed_thresholds_are_refused(text):
    with pytest.raises(UsageError, match="thresholds"):
        parse_tious(text)


def test_the_json_form():
    truth = {"a": [Annotation(0, 1, "run")]}
    value = evaluate_detections(truth, {"a": [Detection(0, 1, "run", 1)]}, parse_tious("0.1:0.3:0.1")).to_json()
    scores = {"0.1": 1.0, "0.2": 1.0, "0.3": 1.0}
    assert json.loads(json.dumps(value)) == {"mAP": scores, "average": 1.0, "ap": {"run": scores}}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", ["activitynet", "thumos14-kit"])
def test_segments_at_the_end_of_all_numbers_hide_no_other(protocol):
    truth = {name: [Annotation(2, 4, "run"), Annotation(6, 9, "jump")] for name in "abc"}
    far = [Detection(1, 1e308, "run", 2), Detection(-1e308, 1e308, "jump", 1)]
    found = {name: [*far, Detection(2, 4, "run", 3), Detection(6, 9, "jump", 3)] for name in "ab"}
    assert evaluate_detections(truth, found, [0.5], protocol).average == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", ["activitynet", "thumos14-kit"])
def test_an_annotation_over_all_numbers_hides_no_other(protocol):
    truth = {name: [Annotation(2, 4, "run"), Annotation(6, 9, "jump")] for name in "abc"}
    truth["a"] = [Annotation(-1e308, 1e308, "run"), *truth["a"]]
    found = {name: [Detection(2, 4.5, "run", 3), Detection(5.5, 9, "jump", 3)] for name in "abc"}
    result = evaluate_detections(truth, found, [0.5], protocol)
    assert [result.ap[label][0.5] for label in ("run", "jump")] == [pytest.approx(3 / 4), 1]


@needs_shared
@pytest.mark.parametrize(("number", "tolerance"), [(0, 1e-9), (1, 5e-6)])
@pytest.mark.parametrize(("kind", "tious"), [("thumos", "0.1:0.9:0.1"), ("anet", "0.5:0.95:0.05")])
def test_parity_with_the_original(number, tolerance, kind, tious):
    folder = SHARED / "reference/evaluation"
    dataset = read_annotations(SHARED / "data/annotations/thumos14/gt.json")
    truth = {video.id: video.annotations for video in dataset.select("test")}
    result = evaluate_detections(truth, read_detections(folder / f"thumos_pred_{number}.json"), parse_tious(tious))
    expected = json.loads((folder / f"thumos_expected_{kind}_{number}.json").read_text())
    assert set(result.ap) == set(expected["ap"])
    for label, values in expected["ap"].items():
        assert list(result.ap[label].values()) == pytest.approx(values, abs=tolerance, rel=0)
    assert list(result.mAP.values()) == pytest.approx(expected["mAP"], abs=tolerance, rel=0)
    assert result.average == pytest.approx(expected["average"], abs=tolerance, rel=0)
    assert result.strangers > 0
