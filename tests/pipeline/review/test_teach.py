"""Next training with verdicts: their labels make another run, their times do not."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.collections import call, write_store, write_truth
from wtal.data.annotations import read_annotations
from wtal.data.detections import write_detections
from wtal.data.segments import Detection
from wtal.data.verdicts import Judged, Verdict, Verdicts, write_verdicts
from wtal.models.training.checkpoint import Checkpoint
from wtal.pipeline.review.teach import lesson_of
from wtal.pipeline.runs import Run
from wtal.pipeline.workspace import Workspace

RECIPE = ("--set", "train.steps=3", "--set", "head.name=stpn", "--set", "ensemble.members=[]", "--device", "cpu")


@pytest.fixture
def place(tmp_path):
    """Workspace with a store of four videos, two of them labelled."""
    root = Workspace(tmp_path / "ws")
    write_store(root.features / "made", {"a": 6, "b": 6, "c": 6, "d": 6})
    root.annotations.mkdir(parents=True)
    write_truth(
        root.annotations / "labels.json", {"a": ("training", 6, "run", 1, 2), "b": ("training", 6, "jump", 2, 3)}
    )
    return root


def say(place, *answers, looked_at=(), shift=0.0):
    """Write verdicts of (video, label, answer), whose times are moved by `shift`."""
    verdicts = []
    for number, (video, label, answer) in enumerate(answers):
        begin = number + shift
        segment = (begin, begin + 1) if answer in ("moved", "missed") else None
        judged = None if answer == "missed" else Judged(segment=(begin, begin + 0.5), score=0.5)
        verdicts.append(Verdict(video=video, label=label, verdict=answer, segment=segment, detection=judged))
    write_verdicts(Verdicts(verdicts=tuple(verdicts), looked_at=looked_at), place.verdicts)


def train(place, *options):
    result = call("train", "collection", "--workspace", place.root, *RECIPE, *options)
    return Path(result.stdout.splitlines()[-1]), result.stderr


def parameters(folder):
    return Checkpoint.newest(folder).head


def test_labels_of_verdicts_train_and_are_told(place):
    plain, _ = train(place)
    say(place, ("a", "jump", "yes"), ("c", "run", "missed"), looked_at=("d",))
    taught, said = train(place)
    assert taught.parent != plain.parent
    assert "verdicts: 2 videos with confirmed labels (a, c)" in said
    assert "verdicts: 1 known negatives (d)" in said
    assert "--no-verdicts ignores them" in said
    dataset = Run.open(taught).annotations()
    assert dataset.videos["a"].labels == ("jump", "run")
    assert dataset.videos["c"].labels == ("run",)
    assert dataset.videos["d"].labels == ()
    assert not Path(json.loads((taught / "run.json").read_text())["annotations"]).is_absolute()
    without, said = train(place, "--no-verdicts")
    assert without == plain
    assert "verdicts:" not in said
    again, _ = train(place, "--annotations", Run.open(taught).annotations_file())
    assert again == taught, "what was taught already is not taught twice"
    assert len(list(place.annotations.iterdir())) == 1, "bare commands still find the one file of labels"


def test_times_of_verdicts_do_not_train(place):
    answers = [("a", "jump", "moved"), ("a", "run", "yes"), ("c", "run", "missed"), ("b", "jump", "no")]
    say(place, *answers, looked_at=("b",))
    first, _ = train(place)
    before, file = parameters(first), Run.open(first).annotations_file()
    content = file.read_bytes()
    for folder in (place.runs, place.reviewed):
        folder.rename(folder.with_name(f"old-{folder.name}"))
    say(place, *answers, looked_at=("b",), shift=2.75)
    second, _ = train(place)
    assert second == first
    after = parameters(second)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert Run.open(second).annotations_file() == file
    assert file.read_bytes() == content
    assert all(annotation.label != "jump" for annotation in read_annotations(file).videos["a"].annotations)


def test_verdicts_that_teach_nothing_make_no_other_run(place):
    plain, _ = train(place)
    say(place, ("a", "run", "yes"))
    taught, said = train(place)
    assert taught == plain
    assert "teaches nothing beyond the labels" in said
    assert not place.reviewed.exists()


def test_every_detection_of_a_run_was_rejected(place):
    say(place, ("c", "run", "no"), ("c", "jump", "no"), ("a", "run", "no"))
    detections = {
        "c": [Detection(0.0, 0.5, "run", 0.5), Detection(1.0, 1.5, "jump", 0.5), Detection(3.0, 3.5, "jump", 0.4)],
        "a": [Detection(2.0, 2.5, "run", 0.5)],
    }
    write_detections(detections, place.runs / "one" / "seed-0" / "detections" / "detections.json")
    write_detections({"c": []}, place.runs / "two" / "seed-0" / "detections" / "detections.json")
    dataset = read_annotations(place.only_annotations())
    verdicts = Verdicts.model_validate_json(place.verdicts.read_text())
    lesson = lesson_of(dataset, verdicts, "training", place)
    assert lesson.dataset.videos["c"].absent == ("run",), "of jump, one detection has no verdict"
    assert lesson.dataset.videos["a"].labels == ("run",)
    assert ["the label stays" in line for line in lesson.contradictions] == [True]


def test_damaged_verdicts_are_one_line(place):
    place.verdicts.write_text('{"format": 1, "verdicts": [{}]}')
    result = call("train", "collection", "--workspace", place.root, *RECIPE, code=1)
    assert "is not a file of verdicts" in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].endswith("; restore a copy, or delete it to begin without verdicts")
    assert not place.runs.exists()
