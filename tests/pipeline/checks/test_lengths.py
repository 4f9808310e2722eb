"""Annotated lengths against those of features and detections: counts, names, the worst with its numbers."""

import json

import pytest

from tests.support.collections import call, write_store, write_truth
from tests.support.videos import constant, write_video
from wtal.data.annotations import read_annotations
from wtal.data.segments import Annotation
from wtal.pipeline.checks.lengths import length_notes

DURATIONS = (
    "videos of 4 whose annotated duration differs from that of their features: 4 (first: x1, x2, x3); the worst is x1, "
    "annotated as 60 s, but its features end at 2 s"
)
SEGMENTS = (
    "segments beyond the end of their features: 4 (first: x1, x2, x3); the worst is x1, 20 to 50 s, but its features "
    "end at 2 s"
)


LONGER = {
    "x1": ("training", 60.0, "A", 20, 50),
    "x2": ("training", 60.0, "B", 20, 50),
    "x3": ("validation", 60.0, "A", 20, 50),
    "x4": ("validation", 60.0, "B", 20, 50),
}


@pytest.fixture
def longer(tmp_path):
    """Features of 2 s, annotated as 60 s."""
    write_store(tmp_path / "store", dict.fromkeys(LONGER, 2))
    return tmp_path / "store", write_truth(tmp_path / "truth.json", LONGER)


@pytest.mark.parametrize(
    ("duration", "length", "odd"),
    [(10, 10.5, False), (10, 12, True), (10, 8, True), (1000, 1015, False), (1000, 1040, True), (None, 3, False)],
)
def test_lengths_may_differ_by_a_little(tmp_path, duration, length, odd):
    truth = read_annotations(write_truth(tmp_path / "t.json", {"a": ("training", duration, "A", 0, 1)}))
    notes = length_notes(truth, write_store(tmp_path / "store", {"a": length}))
    assert bool(notes) is odd


def test_segments_are_compared_where_nobody_knows_a_duration(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("video,label,start,end\na.mp4,A,1,2\na.mp4,A,4,9.5\nb.mp4,A,1,2\n")
    notes = length_notes(read_annotations(table), write_store(tmp_path / "store", {"a": 5, "b": 5}))
    assert notes == (
        "segments beyond the end of their features: 1 (a); the worst is a, 4 to 9.5 s, but its features end at 5 s",
    )


def test_train_evaluate_diagnose_and_submit_tell(longer, tmp_path):
    store, truth = longer
    steps = ("--set", "train.steps=2", "--set", "head.name=stpn", "--workspace", tmp_path)
    trained = call("train", "--store", store, "--annotations", truth, *steps)
    run = trained.stdout.strip()
    assert [line for line in trained.stderr.splitlines() if line in (DURATIONS, SEGMENTS)] == [DURATIONS, SEGMENTS]
    call("detect", run)
    half = "videos of 2 whose annotated duration differs from that of their features: 2 (x3, x4); the worst is x3, "
    assert half in call("evaluate", run).stderr
    assert half in call("evaluate", run, "--task", "proposals").stderr
    seed = f"{run}" if run.endswith("seed-0") else f"{run}/seed-0"
    diagnosed = call("diagnose", seed, "--errors-only", "--json", "--out", tmp_path / "page")
    assert half in diagnosed.stderr
    assert any(note.startswith(half) for note in json.loads(diagnosed.stdout)["notes"])
    submitted = call("submit", seed, "--challenge", "activitynet", "--workspace", tmp_path)
    assert half in submitted.stderr
    for path in store.iterdir():
        path.unlink()
    assert "annotated duration" not in call("evaluate", run).stderr


def test_a_file_of_detections_is_held_against_the_durations(tmp_path):
    truth = write_truth(tmp_path / "t.json", dict.fromkeys("abc", ("validation", 10.0, "Archery", 1, 2)))
    entries = [{"label": "Archery", "score": 0.5, "segment": segment} for segment in ([1, 2], [9, 10.5], [40, 60])]
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": entries, "b": entries[:2]}}))
    line = (
        "detections beyond the annotated end of their video: 1 (a); the worst is a, 40 to 60 s, but it is annotated "
        "as 10 s"
    )
    given = (tmp_path / "found.json", "--annotations", truth)
    assert line in call("evaluate", *given).stderr
    assert call("evaluate", *given, "--against", given[0], "--draws", 2).stderr.count(line) == 1
    assert line in call("diagnose", *given).stderr
    submitted = call("submit", *given, "--challenge", "activitynet", "--out", tmp_path / "out.json")
    assert line in submitted.stderr


def test_run_tells_what_files_and_annotations_disagree_on(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in LONGER:
        write_video(tmp_path / "videos" / f"{name}.mp4", constant(25, 50))
    truth = write_truth(tmp_path / "truth.json", LONGER)
    quick = ("--set", "head.name=stpn", "--set", "train.steps=2", "--workspace", tmp_path / "workspace")
    said = " ".join(call("run", tmp_path / "videos", "--annotations", truth, *quick).stderr.split())
    assert DURATIONS in said
    assert SEGMENTS in said


def test_lengths_without_bound_are_told_in_one_short_line(tmp_path):
    truth = write_truth(tmp_path / "t.json", {"a": ("training", 1e300, "A", 0, 1e300)})
    notes = length_notes(read_annotations(truth), write_store(tmp_path / "store", {"a": 2}))
    assert [len(note) < 200 for note in notes] == [True, True]
    assert Annotation(0, 1e300, "A") in read_annotations(truth).videos["a"].annotations
