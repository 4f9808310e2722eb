import copy
import json
import math

import pytest

from tests.conftest import SHARED, needs_shared
from wtal.data.annotations import read_annotations
from wtal.data.assemble import DatasetBuilder
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval.challenges import Challenge, load_challenge
from wtal.eval.detection import parse_tious
from wtal.eval.submission import build_submission, check_submission
from wtal.registry import CHALLENGES

GOOD = {
    "version": "VERSION 1.3",
    "results": {"abc": [{"label": "Archery", "score": 0.5, "segment": [1.0, 2.5]}]},
    "external_data": {"used": True, "details": "features of a network trained on Kinetics-400"},
}


@pytest.fixture
def dataset():
    builder = DatasetBuilder()
    for video_id, subset in (("abc", "validation"), ("v_def", "validation"), ("ghi", "training")):
        builder.add_video(video_id, subset, 10.0)
        builder.add_segment(video_id, "Ballet", 1, 2)
    return builder.build()


def with_entry(**changes):
    content = copy.deepcopy(GOOD)
    content["results"]["abc"][0].update(changes)
    return content


@pytest.mark.parametrize("name", CHALLENGES.names())
def test_every_challenge_keeps_the_contract(name):
    challenge = load_challenge(name)
    assert isinstance(challenge, Challenge)
    assert len(challenge.classes) == 200
    assert len(parse_tious(challenge.tious)) == 10
    assert check_submission(GOOD, name).errors == ()


@pytest.mark.parametrize("name", CHALLENGES.names())
def test_what_is_built_is_taken(name):
    found = {
        "v_b": [
            Detection(-0.25, 2, "Archery", 0.5),
            Detection(3, 12, "Ballet", 0.75),
            Detection(11, 12, "Ballet", 0.1),
        ],
        "a": [],
    }
    value = build_submission(found, name, {"b": 10.0, "a": None}, {"used": True, "details": "Kinetics-400"})
    assert list(value) == ["version", "results", "external_data"]
    assert value["results"] == {
        "a": [],
        "b": [
            {"label": "Ballet", "score": 0.75, "segment": [3.0, 10.0]},
            {"label": "Archery", "score": 0.5, "segment": [0.0, 2.0]},
        ],
    }
    report = check_submission(json.loads(json.dumps(value)), name)
    assert (report.ok, report.warnings, report.videos, report.detections) == (True, (), 2, 2)


def test_results_alone():
    value = build_submission({"a": [Detection(0, 1, "Archery", 0.5)]}, "hacs", {}, results_only=True)
    assert list(value) == ["results"]
    assert check_submission(value, "hacs").ok
    assert "keys that most servers want" in check_submission(value, "hacs").warnings[0]
    assert check_submission(value, "activitynet").errors == ("missing keys: 2 ('version', 'external_data')",)
    assert check_submission(value, "activitynet", results_only=True).ok


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="two videos are 'a' without 'v_'"):
        build_submission({"a": [], "v_a": []}, "hacs", {})
    with pytest.raises(UsageError, match="finite scores; video 'a' has nan"):
        build_submission({"a": [Detection(0, 1, "Archery", math.nan)]}, "hacs", {})
    with pytest.raises(UsageError, match="did you mean 'hacs'"):
        build_submission({}, "hac", {})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (with_entry(label="Flying"), "labels that are no class of the challenge: 1 (results.abc[0] 'Flying')"),
        (with_entry(label=3), "labels that are no class of the challenge: 1 (results.abc[0] 3)"),
        (with_entry(score=math.nan), "scores that are not finite numbers: 1 (results.abc[0] nan)"),
        (with_entry(score=math.inf), "scores that are not finite numbers: 1 (results.abc[0] inf)"),
        (with_entry(score=True), "scores that are not finite numbers: 1 (results.abc[0] True)"),
        (with_entry(score="0.5"), "scores that are not finite numbers: 1 (results.abc[0] '0.5')"),
        (with_entry(segment=[-0.1, 1]), "segments that begin before second 0: 1 (results.abc[0] [-0.1, 1])"),
        (with_entry(segment=[2, 1]), "segments that end before they begin: 1 (results.abc[0] [2, 1])"),
        (with_entry(segment=["1", 2]), "segments that are not two finite numbers: 1 (results.abc[0] ['1', 2])"),
        (with_entry(segment=[1]), "segments that are not two finite numbers: 1 (results.abc[0] [1])"),
        (with_entry(segment=[0, math.nan]), "segments that are not two finite numbers: 1 (results.abc[0] [0, nan])"),
        ({**GOOD, "results": {"v_abc": []}}, "ids that begin with 'v_', which the challenge's do not: 1 (v_abc)"),
        ({**GOOD, "results": {"abc": {}}}, "videos without a list of detections: 1 (results.abc)"),
        ({**GOOD, "results": {"abc": [3]}}, "detections that are not objects with label, score and segment: 1 ("),
        ({**GOOD, "results": []}, "there is no 'results' object"),
        ({**GOOD, "version": 1.3}, "values of 'version' that are not a text: 1 (1.3)"),
        ({**GOOD, "external_data": {}}, "values of 'external_data' without 'used': true or false: 1 ({})"),
        ({key: GOOD[key] for key in ("version", "results")}, "missing keys: 1 ('external_data')"),
        ([], "there is no 'results' object"),
    ],
)
@pytest.mark.parametrize("name", CHALLENGES.names())
def test_what_the_challenge_would_refuse_is_named(content, error, name):
    report = check_submission(content, name)
    assert not report.ok
    assert len(report.errors) == 1
    assert report.errors[0].startswith(error)


def test_the_first_five_offenders_of_each_kind_are_named():
    entries = [{"label": f"L{i}", "score": None if i > 7 else 1, "segment": [0, 1]} for i in range(10)]
    labels, scores = check_submission({**GOOD, "results": {"a": entries}}, "hacs").errors
    assert labels.startswith("labels that are no class of the challenge: 10 (first: results.a[0] 'L0', ")
    assert "'L4')" in labels
    assert "'L5'" not in labels
    assert scores == "scores that are not finite numbers: 2 (results.a[8] None, results.a[9] None)"


def test_oddities_that_pass_are_warnings():
    content = {**with_entry(segment=[2, 2]), "external_data": {"used": True}, "comment": "hello"}
    report = check_submission(content, "hacs")
    assert report.ok
    assert report.warnings == (
        "values of 'external_data' without 'details': 1 ({'used': True})",
        "keys that the challenge does not know: 1 ('comment')",
        "segments of no length: 1 (results.abc[0] [2, 2])",
    )


def test_classifications_are_refused_as_such():
    content = {**GOOD, "results": {f"a{i}": [{"label": "Archery", "score": 1.0}] for i in range(3)}}
    assert check_submission(content, "hacs").errors == (
        "no entry of 3 has a segment: this is a classification file, not detections",
    )


def test_with_annotations_their_classes_ids_and_durations_rule(dataset):
    def entry(end, label="Ballet"):
        return [{"label": label, "score": 1, "segment": [0, end]}]

    good = {**GOOD, "results": {"abc": entry(10), "def": []}}
    assert check_submission(good, "hacs", dataset, "validation") == check_submission(
        good, "hacs", dataset, "validation"
    )
    assert check_submission(good, "hacs", dataset, "validation").warnings == ()
    wrong = {**GOOD, "results": {"abc": entry(10.4), "ghi": entry(10.6, "Archery"), "zzz": []}}
    report = check_submission(wrong, "hacs", dataset, "validation")
    assert report.errors == (
        "ids that are in another subset than 'validation': 1 (ghi)",
        "ids that the annotations do not know: 1 (zzz)",
        "labels that are no class of the challenge: 1 (results.ghi[0] 'Archery')",
        "segments that end more than 0.5 s after their video: 1 (results.ghi[0] [0, 10.6] of 10.0 s)",
    )
    assert report.warnings == (
        "videos of subset 'validation' that the submission lacks: 1 (v_def)",
        "segments that end after their video, by up to 0.5 s: 1 (results.abc[0] [0, 10.4] of 10.0 s)",
    )
    assert check_submission(good, "hacs", dataset).warnings == (
        "videos of the annotations that the submission lacks: 1 (ghi)",
    )
    with pytest.raises(UsageError, match="no subset 'test'"):
        check_submission(good, "hacs", dataset, "test")
    with pytest.raises(UsageError, match="name the file too"):
        check_submission(good, "hacs", None, "validation")


def test_classes_of_a_collection_of_ones_own_are_a_warning():
    builder = DatasetBuilder()
    labels = [f"own {i}" for i in range(7)] + ["Ballet"]
    for label in labels:
        builder.add_video("abc", "validation", 10.0)
        builder.add_segment("abc", label, 1, 2)
    entries = [{"label": label, "score": 1, "segment": [0, 1]} for label in labels * 2]
    report = check_submission({**GOOD, "results": {"abc": entries}}, "hacs", builder.build())
    assert report.ok
    assert report.warnings == (
        "labels that the challenge's own list lacks, which its server would refuse: 7 "
        "(first: 'own 0', 'own 1', 'own 2', 'own 3', 'own 4')",
    )


def test_a_file_that_is_not_json_is_an_error_of_the_report(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    assert "is not JSON" in check_submission(path, "hacs").errors[0]
    path.write_text(json.dumps(GOOD))
    assert check_submission(path, "hacs").ok


@needs_shared
@pytest.mark.parametrize("name", CHALLENGES.names())
def test_the_samples_of_activitynet(name):
    folder = SHARED / "data/predictions/activitynet_sample"
    detections = check_submission(folder / "sample_detection_prediction.json", name)
    assert (detections.ok, detections.videos, detections.detections) == (True, 4926, 7654)
    assert [warning[:25] for warning in detections.warnings] == ["segments of no length: 3 "]
    classifications = check_submission(folder / "sample_classification_prediction.json", name)
    assert classifications.errors == ("no entry of 4933 has a segment: this is a classification file, not detections",)


@needs_shared
def test_the_class_list_is_that_of_the_annotations():
    annotations = read_annotations(SHARED / "data/annotations/activitynet-1.3-bsn.json")
    assert set(annotations.classes) == load_challenge("activitynet").classes
