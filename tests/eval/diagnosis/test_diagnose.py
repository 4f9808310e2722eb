"""Errors of detections: by hand, against plain definitions, and by their sums."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.detections import read_detections
from wtal.data.segments import Annotation, Detection, Segment, tiou
from wtal.errors import UsageError
from wtal.eval import diagnose_detections, evaluate_detections
from wtal.eval.curves import precision_recall
from wtal.eval.diagnosis.characteristics import BUCKETS, characteristics
from wtal.eval.diagnosis.outcomes import ERRORS, OUTCOMES, outcomes
from wtal.eval.judge import judge
from wtal.eval.protocols import PROTOCOLS, find_protocol

TIOUS = (0.05, 0.5, 0.75)
RATIO = pytest.approx
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)

# Half seconds make equal overlaps, equal scores and thresholds that are met exactly; tenths do not.
ticks = st.one_of(st.integers(0, 50).map(lambda i: i / 2), st.integers(0, 250).map(lambda i: i / 10))
spans = st.tuples(ticks, ticks).map(lambda pair: (min(pair), max(pair)))
labels = st.sampled_from(["jump", "run"])
annotations = st.builds(lambda span, label: Annotation(*span, label), spans, labels)
truths = st.dictionaries(st.sampled_from("abc"), st.lists(annotations, max_size=5), min_size=1).filter(
    lambda truth: any(truth.values())
)
near = st.tuples(st.integers(-2, 2), st.integers(-2, 2))
others = st.builds(lambda span, label, score: Detection(*span, label, score / 4), spans, labels, st.integers(0, 8))
ranges = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.builds(lambda s: Segment(*s), spans), max_size=2), max_size=2
)


@st.composite
def scenes(draw):
    """Annotations, and detections, some near an annotation."""
    truth = draw(truths)
    found = {video: draw(st.lists(others, max_size=4)) for video in draw(st.sets(st.sampled_from("abcz")))}
    for video, segments in truth.items():
        for one in segments:
            for left, right in draw(st.lists(near, max_size=3)):
                start, end = sorted((max(0.0, one.start + left), max(0.0, one.end + right)))
                made = Detection(start, end, draw(labels), draw(st.integers(0, 8)) / 4)
                found.setdefault(video, []).append(made)
    return truth, found


def everything(diagnosis, k):
    return dict(zip(OUTCOMES, diagnosis.among_best()[k].tolist(), strict=True))


def test_each_kind_of_error_by_hand():
    truth = {"a": [Annotation(0, 10, "run"), Annotation(20, 30, "jump")], "b": [Annotation(0, 4, "run")]}
    found = {
        "a": [
            Detection(0, 10, "run", 0.9),  # true
            Detection(0, 9, "run", 0.8),  # duplicate
            Detection(20, 29, "run", 0.7),  # wrong label
            Detection(6, 16, "run", 0.6),  # localization: tiou 1/4
            Detection(27, 37, "run", 0.5),  # confusion: tiou 3/17
            Detection(60, 70, "run", 0.4),  # background
            Detection(29.5, 39, "jump", 0.3),  # background: tiou 1/38
        ],
        "b": [Detection(0, 3, "run", 0.35)],  # true
        "unknown": [Detection(0, 4, "run", 0.1)],  # background
    }
    made = diagnose_detections(truth, found, (0.5,))
    counts = {"true positive": 2, "background": 3, "not counted": 0, **dict.fromkeys(ERRORS[:4], 1)}
    assert everything(made, 0) == counts
    # `run` has two annotations, so its best two are G; `jump` has one.
    assert made.counts[0, 0].tolist() == [1, 1, 0, 0, 0, 1, 0]
    assert made.counts[0, 1].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert made.counts.shape == (1, 11, 7)
    # AP of run is (1 + 2 / 7) / 2; each of its five false positives before the second true one gone: 2 / 6.
    assert made.removal.mean_ap[0] == RATIO((1 + 2 / 7) / 4)
    assert made.removal.alone[0] == RATIO((2 / 6 - 2 / 7) / 4)
    assert made.removal.recall[0] == RATIO(1 / 2)
    # All five kinds rank equally before it, so each has a fifth of their common cost.
    assert made.removal.shared[0] == RATIO((1 - 2 / 7) / 4 / 5)
    assert (made.missed[0], made.late[0]) == (RATIO(1 / 3), 0)
    json.dumps(made.to_json(), allow_nan=False)


def test_an_annotation_of_the_own_class_decides_between_equal_overlaps():
    truth = {"a": [Annotation(0, 10, "jump"), Annotation(0, 10, "run")]}
    found = {"a": [Detection(0, 10, "run", 2), Detection(0, 10, "run", 1), Detection(0, 9, "jump", 1)]}
    counts = everything(diagnose_detections(truth, found, (0.5,)), 0)
    assert (counts["true positive"], counts["duplicate"], counts["wrong label"]) == (2, 1, 0)


def test_what_a_protocol_excuses_is_not_counted():
    truth = {"a": [Annotation(0, 16, "run")]}
    found = {"a": [Detection(0, 16, "run", 1), Detection(30, 40, "run", 2), Detection(50, 60, "run", 3)]}
    unsure = {"a": [Segment(35, 36), Segment(0, 1)]}
    made = diagnose_detections(truth, found, (0.5,), "thumos14-kit", unsure)
    assert everything(made, 0) == {**dict.fromkeys(OUTCOMES, 0), "true positive": 1, "background": 1, "not counted": 1}
    assert made.removal.mean_ap[0] == 0.5
    assert everything(diagnose_detections(truth, found, (0.5,), "thumos14", unsure), 0)["background"] == 2


def plain_outcome(detection, video, truth, threshold):
    """Kind of a false positive by ActivityNet's rules."""
    overlaps = [(tiou(detection, one), one.label == detection.label) for one in truth.get(video, ())]
    best, own = max(overlaps, default=(0.0, False))
    if best >= threshold:
        return "duplicate" if own else "wrong label"
    if best >= 0.1:
        return "localization" if own else "confusion"
    return "background"


def plain_matches(truth, found, label, threshold):
    """Rank detections of a class by ActivityNet's rules: (video, detection, index of its annotation or None)."""
    wanted = [(video, one) for video in truth for one in truth[video] if one.label == label]
    ranked = sorted(
        ((video, one) for video in found for one in found[video] if one.label == label), key=lambda pair: -pair[1].score
    )
    free, rows = set(range(len(wanted))), []
    for video, one in ranked:
        fits = [(tiou(one, wanted[i][1]), i) for i in free if wanted[i][0] == video]
        best = max((pair for pair in fits if pair[0] >= threshold), default=(0, None))[1]
        free -= {best}
        rows.append((video, one, best))
    return wanted, rows


def plain_ap(flags, positives, average=None):
    """Interpolated AP of a ranking of hits, normalized if `average` is given."""
    precision, hits = [], 0
    for i, hit in enumerate(flags):
        hits += hit
        found = hits if average is None else hits / positives * average
        precision.append(found / (found + i + 1 - hits) if found else 0.0)
    return sum(max(precision[i:]) for i, hit in enumerate(flags) if hit) / positives


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(scenes())
def test_counts_and_gains_equal_their_definitions_written_plainly(scene):
    truth, found = scene
    made = diagnose_detections(truth, found, TIOUS)
    classes = [*made.evaluation.ap]
    for k, threshold in enumerate(TIOUS):
        counts = np.zeros((11, 7), int)
        by_class = {}
        for label in classes:
            wanted, rows = plain_matches(truth, found, label, threshold)
            kinds = [
                "true positive" if match is not None else plain_outcome(one, video, truth, threshold)
                for video, one, match in rows
            ]
            by_class[label] = kinds, len(wanted)
            for rank, kind in enumerate(kinds):
                counts[min(rank // len(wanted), 10), OUTCOMES.index(kind)] += 1
        np.testing.assert_array_equal(made.counts[k], counts)

        def without(removed, by_class=by_class):
            rest = [([one for one in kinds if one not in removed], n) for kinds, n in by_class.values()]
            return np.mean([plain_ap([one == "true positive" for one in kinds], n) for kinds, n in rest])

        for place, kind in enumerate(ERRORS):
            assert made.removal.alone[k, place] == RATIO(without({kind}) - without(()))
            gains = [
                without(order[: order.index(kind) + 1]) - without(order[: order.index(kind)])
                for order in itertools.permutations(ERRORS)
                if len(truth) == 1  # all 120 orders are slow: a third of the examples
            ]
            assert not gains or made.removal.shared[k, place] == RATIO(np.mean(gains))
        assert made.removal.recall[k] == RATIO(without(ERRORS))


@settings(max_examples=80, deadline=None)
@given(scenes(), st.sampled_from(BUCKETS))
def test_buckets_equal_their_definitions_written_plainly(scene, table):
    truth, found = scene
    durations = dict.fromkeys(truth, 40.0)
    made = diagnose_detections(truth, found, TIOUS, durations=durations, buckets=table)
    assert [*made.characteristics] == ["length", "coverage", "instances"]
    total = sum(map(len, truth.values()))
    kinds = {one.name: one for one in characteristics(truth, durations, table)}
    average = total / len(made.evaluation.ap)
    flat = [(video, one) for video in truth for one in truth[video]]
    for name, buckets in made.characteristics.items():
        assert sum(one.annotations for one in buckets) == total
        for k, threshold in enumerate(TIOUS):
            matches = {label: plain_matches(truth, found, label, threshold) for label in made.evaluation.ap}
            for i, bucket in enumerate(buckets):
                inside = [pair for pair, place in zip(flat, kinds[name].bucket, strict=True) if place == i]
                values, missed = [], len(inside)
                for wanted, rows in matches.values():
                    # Equal annotations of a video are in one bucket.
                    here = {j for j, pair in enumerate(wanted) if pair in inside}
                    flags = [match is not None for _, _, match in rows if match is None or match in here]
                    missed -= sum(flags)
                    if here:
                        values.append(plain_ap(flags, len(here), average))
                assert bucket.annotations == len(inside)
                if inside:
                    assert bucket.normalized[k] == RATIO(np.mean(values))
                    assert bucket.missed[k] == RATIO(missed / len(inside))


@every_protocol
@settings(max_examples=40, deadline=None)
@given(scenes(), ranges)
def test_the_numbers_add_up_to_the_map(protocol, scene, unsure):
    truth, found = scene
    judged = evaluate_detections(truth, found, TIOUS, protocol, unsure)
    made = diagnose_detections(truth, found, TIOUS, protocol, unsure)
    assert made.evaluation == judged
    assert made.removal.mean_ap.tolist() == [*judged.mAP.values()]
    considered = judge(truth, found, TIOUS, find_protocol(protocol), unsure).detections
    assert made.among_best().sum(axis=1).tolist() == [len(considered)] * len(TIOUS)
    cost = made.removal
    np.testing.assert_allclose(cost.mean_ap + cost.shared.sum(axis=1), cost.recall, atol=1e-12)
    assert (cost.alone >= -1e-12).all()
    assert (cost.shared >= -1e-12).all()
    np.testing.assert_allclose(made.missed, 1 - made.among_best()[:, 0] / made.annotations, atol=1e-12)
    for buckets in made.characteristics.values():
        for share in ("missed", "late"):
            parts = [getattr(one, share) * one.annotations for one in buckets if one.annotations]
            np.testing.assert_allclose(np.sum(parts, axis=0), getattr(made, share) * made.annotations, atol=1e-9)


@every_protocol
@settings(max_examples=25, deadline=None)
@given(scenes(), ranges, st.sampled_from(ERRORS))
def test_a_gain_is_what_a_file_without_these_errors_has_more(protocol, scene, unsure, kind):
    truth, found = scene
    number = itertools.count()
    apart = {
        video: [replace(one, score=one.score + next(number) / 1e4) for one in here] for video, here in found.items()
    }
    rules, tious = find_protocol(protocol), (0.5,)
    judged = judge(truth, apart, tious, rules, unsure)
    (codes,) = outcomes(judged, tious, rules)
    gone = {*judged.detections.score[codes == 1 + ERRORS.index(kind)].tolist()}
    rest = {video: [one for one in here if one.score not in gone] for video, here in apart.items()}
    gain = diagnose_detections(truth, apart, tious, protocol, unsure).removal.alone[0, ERRORS.index(kind)]
    before, after = (evaluate_detections(truth, one, tious, protocol, unsure).mAP[0.5] for one in (apart, rest))
    assert after - before == RATIO(gain, abs=1e-12)
    assert gone or gain == 0


@settings(max_examples=40, deadline=None)
@given(truths)
def test_perfect_and_empty_files(truth):
    distinct = {video: [*dict.fromkeys(found)] for video, found in truth.items()}
    perfect = {
        video: [Detection(one.start, one.end, one.label, 1) for one in found] for video, found in distinct.items()
    }
    made = diagnose_detections(distinct, perfect)
    assert made.removal.mean_ap == RATIO(1)
    assert made.removal.shared == RATIO(0)
    assert made.normalized == RATIO(1)
    assert made.counts.sum() == made.counts[:, :, 0].sum()
    empty = diagnose_detections(truth, {})
    assert empty.removal.recall.tolist() == [0] * 10
    assert empty.missed.tolist() == [1] * 10
    json.dumps(empty.to_json(), allow_nan=False)


def test_buckets_of_the_source():
    truth = {"a": [Annotation(0, 30, "run"), Annotation(0, 30.5, "run"), Annotation(0, 120, "jump")], "b": []}
    length, coverage, instances = characteristics(truth, {"a": 100.0}, "activitynet")
    assert length.bucket.tolist() == [0, 1, 2]
    assert length.ranges == ("≤30", "30–60", "60–120", "120–180", ">180")
    assert coverage.bucket.tolist() == [1, 1, 4]
    assert coverage.ranges[1] == "20–40"
    assert instances.bucket.tolist() == [1, 1, 0]
    assert (instances.names, instances.ranges) == (("XS", "S", "M", "L"), ("1", "2–4", "5–8", ">8"))
    assert characteristics(truth, {"a": 100.0}, "thumos14")[0].bucket.tolist() == [4, 4, 4]
    assert [one.name for one in characteristics(truth, {}, "thumos14")] == ["length", "instances"]
    some = {"a": truth["a"][:1], "b": [Annotation(0, 1, "run")]}
    assert characteristics(some, {"b": 2.0}, "activitynet")[1].bucket.tolist() == [-1, 2]


def test_fifths_hold_as_many_each():
    truth = {"a": [Annotation(0, i + 1, "run") for i in range(50)]}
    length, instances = characteristics(truth, {}, "fifths")
    assert np.bincount(length.bucket).tolist() == [10] * 5
    assert (instances.names, instances.ranges) == (("XS",), ("all",))
    with pytest.raises(UsageError, match="did you mean 'fifths'"):
        characteristics(truth, {}, "fifth")


def test_late_annotations_are_those_of_low_normalized_precision():
    truth = {"a": [Annotation(0, 10, "run")]}
    found = {"a": [Detection(50, 60, "run", 2) for _ in range(19)] + [Detection(0, 10, "run", 1)]}
    assert diagnose_detections(truth, found, (0.5,)).late == [1]  # 1 / 20
    assert diagnose_detections(truth, {"a": found["a"][1:]}, (0.5,)).late == [0]


@every_protocol
@settings(max_examples=25, deadline=None)
@given(scenes(), ranges)
def test_a_curve_encloses_its_average_precision(protocol, scene, unsure):
    truth, found = scene
    made = precision_recall(truth, found, TIOUS, protocol, unsure)
    for label, by_tiou in evaluate_detections(truth, found, TIOUS, protocol, unsure).ap.items():
        for curve, ap in zip(made[label], by_tiou.values(), strict=True):
            assert curve.ap == RATIO(ap, abs=1e-12)
            assert (np.diff(curve.recall) > 0).all()
            assert curve.recall.max(initial=0) <= 1


@needs_shared
def test_published_detections_by_the_kit_that_published_them():
    folder = SHARED / "data/predictions/scnn"
    expected = json.loads((folder / "expected.json").read_text())
    records = read_annotations(folder / "thumos14_test_annotations.json").select("test")
    truth = {video.id: video.annotations for video in records}
    unsure = {video.id: video.ambiguous for video in records}
    found = read_detections(folder / "detections_tiou0.5.json")
    made = diagnose_detections(truth, found, (0.5,), "thumos14-kit", unsure, buckets="thumos14")
    assert made.removal.mean_ap[0] == RATIO(expected["mAP"]["0.5"], abs=expected["tolerance"], rel=0)
    assert made.among_best()[0].sum() == sum(map(len, found.values()))
    assert [one.annotations for one in made.characteristics["length"]] == [1626, 851, 730, 114, 37]
    total = made.removal.mean_ap + made.removal.shared.sum(axis=1) + (1 - made.removal.recall)
    assert total == RATIO(1, abs=1e-12)
    assert not math.isnan(made.normalized[0])
