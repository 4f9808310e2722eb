"""Every challenge: the contract, its classes, and published files checked by its rules."""

import json

import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.submissions import GOOD
from wtal.data.annotations import read_annotations
from wtal.data.assemble import DatasetBuilder
from wtal.eval.challenges import CHALLENGES, Challenge, load_challenge
from wtal.eval.detection import parse_tious
from wtal.eval.submission_check import check_submission


@pytest.mark.parametrize("name", CHALLENGES.names())
def test_every_challenge_keeps_the_contract(name):
    challenge = load_challenge(name)
    assert isinstance(challenge, Challenge)
    assert len(challenge.classes) == 200
    assert len(parse_tious(challenge.tious)) == 10
    assert check_submission(GOOD, name).errors == ()


@needs_shared
@pytest.mark.parametrize("name", CHALLENGES.names())
def test_the_samples_of_activitynet(name):
    folder = SHARED / "data/predictions/activitynet_sample"
    detections = check_submission(folder / "sample_detection_prediction.json", name)
    assert (detections.ok, detections.videos, detections.detections) == (True, 4926, 7654)
    assert [warning[:25] for warning in detections.warnings] == ["segments of length 0: 3 ("]
    classifications = check_submission(folder / "sample_classification_prediction.json", name)
    assert classifications.errors == ("no entry of 4933 has a segment: this is a classification file, not detections",)


@needs_shared
def test_the_class_list_is_that_of_the_annotations():
    annotations = read_annotations(SHARED / "data/annotations/activitynet-1.3-bsn.json")
    assert set(annotations.classes) == load_challenge("activitynet").classes


@needs_shared
def test_the_sample_runs_past_its_videos_by_little():
    """Accept the file with durations that end 0.5 s before its segments; refuse it with shorter ones."""
    path = SHARED / "data/predictions/activitynet_sample/sample_detection_prediction.json"
    content = json.loads(path.read_text())
    for margin, ok in ((0.5, True), (0.51, False)):
        builder = DatasetBuilder(sorted(load_challenge("activitynet").classes))
        for video_id, entries in content["results"].items():
            end = max((entry["segment"][1] for entry in entries), default=1)
            builder.add_video(f"v_{video_id}", "validation", max(end - margin, 0))
        report = check_submission(path, "activitynet", builder.build(), "validation")
        assert report.ok is ok
        assert report.missing == 0
        assert any(line.startswith("segments of length 0: 3") for line in report.warnings)
        late = report.warnings if ok else report.errors
        assert any(line.startswith("segments that end ") and "results." in line for line in late)


@needs_shared
def test_the_sample_against_bsns_list_of_videos():
    """BSN's list lacks 198 validation videos, and ends one video 0.85 s before the sample's segment."""
    annotations = read_annotations(SHARED / "data/annotations/activitynet-1.3-bsn.json")
    path = SHARED / "data/predictions/activitynet_sample/sample_detection_prediction.json"
    unknown, late = check_submission(path, "activitynet", annotations).errors
    assert unknown.startswith("ids missing from the annotations: 198 (first: yHaTlDD-qHA,")
    assert late.startswith("segments that end more than 0.5 s after their video: 1 (results.m--b-Ltjm_Y[0]")


@needs_shared
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("scnn/detections_tiou0.5.json", "labels that are not classes of the challenge"),
        ("scnn/thumos14_test_annotations.json", "there is no 'results' object"),
        ("scnn/expected.json", "there is no 'results' object"),
        ("mmaction2_eval/eval_localization/result.json", "missing keys"),
        ("mmaction2_eval/eval_detection/pred.csv", "is not JSON"),
        ("mmaction2_eval/eval_detection/proposal.pkl", "is not UTF-8 text"),
    ],
)
def test_other_files_are_refused_by_name(name, error):
    report = check_submission(SHARED / "data/predictions" / name, "activitynet")
    assert report.errors[0].find(error) >= 0, report.errors
