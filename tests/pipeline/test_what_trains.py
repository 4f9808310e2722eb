"""Training videos, and classes without videos or detections: counts that add up, and names."""

import json
import re

import pytest

from tests.support.collections import call, write_store, write_truth
from wtal.data.annotations import read_annotations
from wtal.data.store import FeatureStore
from wtal.pipeline.progress import Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.train import training_videos

STEPS = ("--set", "train.steps=2", "--set", "head.name=stpn")


class Listener(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def told(tmp_path):
    """Ask for the training videos of a table of labels, where all but `gone` have features and `tiny` is too short."""
    store = write_store(tmp_path / "store", {"a": 5, "b": 5, "none": 5, "partly": 5})

    def ask(rows, **train):
        table = tmp_path / "labels.csv"
        table.write_text("\n".join(["video,label", *rows]) + "\n")
        listener = Listener()
        recipe = Recipe.parse({"head": {"name": "stpn"}, "train": train})
        opened = FeatureStore.open(store.path)
        videos = training_videos(opened, read_annotations(table), recipe, opened.ids, listener)
        return [len(part) for part in videos], listener.lines

    return ask


def test_the_counts_of_what_trains_add_up(told):
    rows = ["a,run", "b,jump"]
    assert told(rows) == ([2, 0], [])
    mixed = [*rows, "none,", "partly,!run", "gone,run", "gone too,"]
    for settings, count, words in (
        ({}, [2, 2], "2 labelled, 1 known negatives, 1 known to lack some classes; left out: 2 without features"),
        ({"negatives": False}, [2, 0], "2 labelled; left out: 2 without features, 2 without labels"),
    ):
        counts, lines = told(mixed, **settings)
        assert counts == count
        assert lines == [f"training on {sum(count)} of 6 training videos: {words}"]
        numbers = [int(number) for number in re.findall(r"\d+", lines[0])]
        assert numbers[1] == sum(numbers[2:])
        assert numbers[0] == sum(count)
    assert told([*rows, "none,"])[1] == ["training on 3 of 3 training videos: 2 labelled, 1 known negatives"]


@pytest.mark.parametrize("head", [STEPS, ("--set", "train.steps=2", "--set", "ensemble.seeds=1")])
def test_a_class_that_nothing_trains_is_named_beside_its_figure(tmp_path, head):
    write_store(tmp_path / "store", dict.fromkeys(["x1", "x2", "x3", "x4"], 6))
    rows = {name: ("training" if name < "x3" else "validation", 6.0, "A", 1, 4) for name in ("x1", "x2", "x3", "x4")}
    rows["x2"] = ("training", 6.0, "B", 1, 4)
    rows["x4"] = ("validation", 6.0, "OnlyInValidation", 1, 4)
    truth = write_truth(tmp_path / "truth.json", rows)
    run = call("train", "--store", tmp_path / "store", "--annotations", truth, *head, "--workspace", tmp_path)
    folder = run.stdout.strip()
    call("detect", folder)
    line = "classes absent from all training videos, so that their AP is meaningless: 1 ('OnlyInValidation')"
    assert line in call("evaluate", folder).stderr
    assert json.loads(call("evaluate", folder, "--json").stdout)["untrained"] == ["OnlyInValidation"]
    assert line in call("evaluate", folder, "--format", "markdown").stdout
    seed = json.loads(call("show", folder, "--json").stdout)["seeds"][0]
    file = seed["path"] + "/detections/detections.json"
    assert line in call("evaluate", file, "--annotations", truth).stderr


def test_a_class_without_a_detection_is_named(tmp_path):
    rows = {name: ("validation", 10.0, label, 1, 2) for name, label in (("a", "run"), ("b", "jump"), ("c", "fly"))}
    truth = write_truth(tmp_path / "t.json", rows)
    found = {"a": [{"label": "run", "score": 0.5, "segment": [1, 2]}]}
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    judged = call("evaluate", tmp_path / "found.json", "--annotations", truth)
    assert "classes without a detection, AP 0: 2 ('fly', 'jump')" in judged.stderr
    value = json.loads(call("evaluate", tmp_path / "found.json", "--annotations", truth, "--json").stdout)
    assert value["undetected"] == ["fly", "jump"]
    assert "untrained" not in value


def test_a_stream_that_the_features_lack_is_refused_before_training(tmp_path):
    store = write_store(tmp_path / "store", {"a": 5, "b": 5})
    table = tmp_path / "labels.csv"
    table.write_text("video,label\na,run\nb,jump\n")
    wrong = ("--set", "localize.streams=rbg", "--workspace", str(tmp_path / "ws"))
    refused = call("train", "--store", str(store.path), "--annotations", str(table), *STEPS, *wrong, code=2)
    assert "localize.streams: the features have no stream 'rbg'; did you mean 'rgb'? " in refused.stderr
    assert not (tmp_path / "ws" / "runs").exists()
