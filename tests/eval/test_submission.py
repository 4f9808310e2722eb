import copy
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.submissions import GOOD
from wtal.data.assemble import DatasetBuilder
from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.eval.challenges import CHALLENGES, load_challenge
from wtal.eval.submission import build_submission, submission_head, submission_results, write_submission
from wtal.eval.submission_check import check_submission


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
    assert "keys required by most servers" in check_submission(value, "hacs").warnings[0]
    assert check_submission(value, "activitynet").errors == ("missing keys: 2 ('version', 'external_data')",)
    assert check_submission(value, "activitynet", results_only=True).ok


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="two videos have the id 'a' without 'v_'"):
        build_submission({"a": [], "v_a": []}, "hacs", {})
    with pytest.raises(UsageError, match="finite scores; video 'a' has nan"):
        build_submission({"a": [Detection(0, 1, "Archery", math.nan)]}, "hacs", {})
    with pytest.raises(UsageError, match="did you mean 'hacs'"):
        build_submission({}, "hac", {})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (with_entry(label="Flying"), "labels that are not classes of the challenge: 1 (results.abc[0] 'Flying')"),
        (with_entry(label=3), "labels that are not classes of the challenge: 1 (results.abc[0] 3)"),
        (with_entry(score=math.nan), "scores that are not finite numbers: 1 (results.abc[0] nan)"),
        (with_entry(score=math.inf), "scores that are not finite numbers: 1 (results.abc[0] inf)"),
        (with_entry(score=True), "scores that are not finite numbers: 1 (results.abc[0] True)"),
        (with_entry(score="0.5"), "scores that are not finite numbers: 1 (results.abc[0] '0.5')"),
        (with_entry(segment=[-0.1, 1]), "segments that begin before second 0: 1 (results.abc[0] [-0.1, 1])"),
        (with_entry(segment=[2, 1]), "segments that end before they begin: 1 (results.abc[0] [2, 1])"),
        (with_entry(segment=["1", 2]), "segments that are not two finite numbers: 1 (results.abc[0] ['1', 2])"),
        (with_entry(segment=[1]), "segments that are not two finite numbers: 1 (results.abc[0] [1])"),
        (with_entry(segment=[0, math.nan]), "segments that are not two finite numbers: 1 (results.abc[0] [0, nan])"),
        ({**GOOD, "results": {"v_abc": []}}, "ids that begin with 'v_', unlike the challenge's: 1 (v_abc)"),
        ({**GOOD, "results": {"abc": {}}}, "videos without a list of detections: 1 (results.abc)"),
        ({**GOOD, "results": {"abc": [3]}}, "detections that are not objects with label, score and segment: 1 ("),
        ({**GOOD, "results": []}, "there is no 'results' object"),
        ({**GOOD, "version": 1.3}, "values of 'version' that are not strings: 1 (1.3)"),
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
    assert labels.startswith("labels that are not classes of the challenge: 10 (first: results.a[0] 'L0', ")
    assert "'L4')" in labels
    assert "'L5'" not in labels
    assert scores == "scores that are not finite numbers: 2 (results.a[8] None, results.a[9] None)"


def test_oddities_that_pass_are_warnings():
    content = {**with_entry(segment=[2, 2]), "external_data": {"used": True}, "comment": "hello"}
    report = check_submission(content, "hacs")
    assert report.ok
    assert report.warnings == (
        "values of 'external_data' without 'details': 1 ({'used': True})",
        "keys unknown to the challenge: 1 ('comment')",
        "segments of length 0: 1 (results.abc[0] [2, 2])",
    )


def test_a_file_and_its_value_are_checked_alike(tmp_path):
    contents = [
        GOOD,
        with_entry(label="Flying", score="1"),
        {"results": GOOD["results"]},
        {**GOOD, "results": {"abc": 3, "v_def": [3, {}, {"segment": None}]}, "comment": {"a": [1]}},
        {**GOOD, "results": {}},
        {**GOOD, "results": None},
        [GOOD],
        3,
    ]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(content), encoding="utf-16" if number % 2 else "utf-8-sig")
        for name in CHALLENGES.names():
            assert check_submission(path, name) == check_submission(content, name)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1"),
        ('{"results": {"abc": [', "is not JSON: Expecting value: line 1 column 22"),
        ('{"results":\n {"abc": [{"label": "Archery"} {}]}}', "is not JSON: Expecting ',' or ']': line 2 column 32"),
        ('{"results": {"abc": []}}\n}', "is not JSON: Extra data: line 2 column 1"),
        ('{"results": {abc: []}}', "Expecting property name enclosed in double quotes: line 1 column 14"),
        ('{"results": {"abc": [{"score": 1' + "0" * 5000 + "}]}}", "too many digits: line 1 column 22"),
        ('{"results": {"abc": [' + "[" * 100_000, "nested too deeply: line 1 column 22"),
        ('{"results": {"abc": ["' + "a" * 100, "Unterminated string starting at: line 1 column 22"),
        ('{"database": {}}', "'database' holds annotations"),
        ('{"version": "x"}', "there is no 'results' object"),
    ],
)
def test_what_is_no_submission_is_named_with_its_place(tmp_path, text, error):
    path = tmp_path / "a.json"
    path.write_text(text)
    (found,) = check_submission(path, "hacs").errors
    assert error in found
    assert "\n" not in found
    path.write_bytes(b'{"results": {"abc\xff": []}}')
    assert "is not UTF-8 text" in check_submission(path, "hacs").errors[0]


def test_what_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        '{"version": "1", "results": {"abc": [], "abc": []}, "external_data": {"used": false, "details": ""}}'
    )
    assert check_submission(path, "hacs").errors == ("videos that occur twice: 1 (abc)",)
    path.write_text('{"version": "1", "version": "2", "results": {}, "external_data": {"used": false, "details": ""}}')
    assert check_submission(path, "hacs").errors == ("keys that occur twice: 1 ('version')",)


def test_odd_texts_are_shown_in_one_short_line():
    entry = {"label": "a" * 1000 + "\n", "score": 10**400, "segment": [0, 1]}
    report = check_submission({**GOOD, "results": {"a\nb\ud800": [entry]}}, "hacs")
    assert len(report.errors) == 2
    for line in report.errors:
        assert line.isprintable()
        assert len(line) < 250
        assert "results.a\\nb\\ud800[0]" in line


def test_missing_videos_are_counted(dataset):
    value = {**GOOD, "results": {"abc": [{"label": "Ballet", "score": 1, "segment": [0, 1]}] * 3}}
    report = check_submission(value, "hacs", dataset, "validation")
    assert (report.expected, report.missing, report.most) == (2, 1, 3)
    assert report.to_text().splitlines()[-1] == (
        "3 detections in 1 videos (at most 3 in one, 1 of 2 expected videos missing): would be accepted"
    )
    assert check_submission(value, "hacs", dataset).missing == 2
    assert check_submission(GOOD, "hacs").missing is None


def test_a_cap_of_the_challenge_holds_for_building_and_checking(monkeypatch):
    found = {"a": [Detection(i, i + 1, "Archery", i / 10) for i in range(5)]}
    kept = build_submission(found, "hacs", {}, most=2)["results"]["a"]
    assert [entry["score"] for entry in kept] == [0.4, 0.3]
    whole = build_submission(found, "hacs", {})
    assert check_submission(whole, "hacs").ok
    capped = replace(load_challenge("hacs"), max_per_video=4)
    monkeypatch.setattr("wtal.eval.submission_check.load_challenge", lambda name: capped)
    monkeypatch.setattr("wtal.eval.submission.load_challenge", lambda name: capped)
    assert check_submission(whole, "hacs").errors == ("videos with more than 4 detections: 1 (a)",)
    assert [len(build_submission(found, "hacs", {}, most=most)["results"]["a"]) for most in (None, 3, 9)] == [4, 3, 4]


segments = st.tuples(st.floats(-5, 40), st.floats(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(segments, st.floats(-1e6, 1e6, width=32))), st.floats(0.1, 30))
def test_rounding_stays_inside_the_video_and_near(found, duration):
    detections = [Detection(*segment, "Archery", score) for segment, score in found]
    value = build_submission({"a": detections}, "hacs", {"a": duration})
    entries = value["results"]["a"]
    cut = [(max(d.start, 0.0), min(d.end, duration), d.score) for d in sorted(detections, key=lambda d: -d.score)]
    cut = [one for one in cut if one[0] < one[1]]
    assert len(entries) == len(cut)
    for entry, (start, end, score) in zip(entries, cut, strict=True):
        assert entry["segment"] == pytest.approx([start, end], abs=0.00051)
        assert np.float32(entry["score"]) == np.float32(score)
    builder = DatasetBuilder(["Archery"])
    builder.add_video("a", "testing", duration)
    report = check_submission(value, "hacs", builder.build())
    assert (report.errors, report.warnings) == ((), ())


def test_what_is_written_is_what_is_built():
    found = {"v_b": [Detection(0, 1.23456, "Archery", 1 / 3)], "a\ud800": [], "c": []}
    for detections in (found, {}):
        for results_only in (False, True):
            value = build_submission(detections, "hacs", {}, results_only=results_only)
            file = io.BytesIO()
            head = submission_head("hacs", {"used": False, "details": ""}, results_only)
            write_submission(file, head, submission_results(detections, "hacs", {}))
            assert json.loads(file.getvalue()) == value
            assert list(json.loads(file.getvalue())) == list(value)


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
        "ids missing from the annotations: 1 (zzz)",
        "labels that are not classes of the challenge: 1 (results.ghi[0] 'Archery')",
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
    with pytest.raises(UsageError, match="name the file, too"):
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
        "labels missing from the challenge's own list, which its server would refuse: 7 "
        "(first: 'own 0', 'own 1', 'own 2', 'own 3', 'own 4')",
    )


def test_a_file_that_is_not_json_is_an_error_of_the_report(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    assert "is not JSON" in check_submission(path, "hacs").errors[0]
    path.write_text(json.dumps(GOOD))
    assert check_submission(path, "hacs").ok
