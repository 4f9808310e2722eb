"""Label-only check of a recipe: results on planted actions and shuffled labels, and no use of segments."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.planted import CLASSES, planted_videos
from wtal.cli import main
from wtal.data.detections import read_made
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.pipeline.checks import label_check
from wtal.pipeline.checks.label_check import check
from wtal.pipeline.ensembles.train_members import train_recipe
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import open_run
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.workspace import Workspace

TRAIN = {"steps": 40, "batch_size": 8, "sampling": "full", "learning_rate": 3e-3}
LOCALIZE = {"signal": "product", "activation": "softmax", "threshold_stop": 0.95, "threshold_step": 0.1}
SINGLE = {"head": {"name": "basnet", "width": 16, "filter_width": 8}, "train": TRAIN, "localize": LOCALIZE}
ENSEMBLE = {
    **SINGLE,
    "ensemble": {
        "seeds": 2,
        "members": [
            {"head": {"name": "basnet", "width": 16, "filter_width": 8}},
            {"head": {"name": "bm", "embedding": 16, "attention_width": 8}, "localize": {"class_threshold": 0.1}},
        ],
    },
}


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def collection(root, shuffled=False):
    """Store of planted features in a workspace, and its annotation file: 24 videos train, 4 are reported."""
    workspace = Workspace(root)
    writer = StoreWriter.open(workspace.features / "planted-12x12@25-000000", {"backbone": "planted"})
    videos = planted_videos(28, seed=0)
    shown = [sorted({a.label for a in video.annotations}) for video in videos]
    order = np.random.default_rng(5).permutation(24)
    database = {}
    for number, video in enumerate(videos):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        labels = shown[order[number]] if shuffled and number < 24 else shown[number]
        segments = [{"label": label, "segment": [0.0, 1.0]} for label in labels]
        database[video.id] = {"subset": "training" if number < 24 else "validation", "annotations": segments}
    store = writer.publish().path
    return workspace, TrainInputs(store, write_json(workspace.annotations / "planted.json", {"database": database}))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return collection(tmp_path_factory.mktemp("planted"))


def test_planted_actions_are_learned_and_the_check_is_read_again(planted, monkeypatch):
    workspace, inputs = planted
    checked = check(inputs, Recipe.parse(SINGLE), workspace)
    assert set(checked.verdicts.values()) == {"learned"}
    assert checked.videos == 24
    assert checked.auc > 0.9
    assert not list(workspace.checks.glob("*/runs")), "its heads are gone"
    monkeypatch.setattr(label_check, "train", None)  # nothing trains again
    assert check(inputs, Recipe.parse(SINGLE), workspace) == checked


def test_shuffled_labels_are_not_learned(tmp_path):
    workspace, inputs = collection(tmp_path, shuffled=True)
    checked = check(inputs, Recipe.parse(SINGLE), workspace)
    assert set(checked.verdicts.values()) == {"not learned"}
    assert any("trust none of its detections" in line for line in checked.sentences())


def test_what_few_videos_cannot_tell_is_not_known_and_nothing_trains(tmp_path, monkeypatch):
    workspace, inputs = collection(tmp_path)
    monkeypatch.setattr(label_check, "train", None)
    few = replace(inputs, only=frozenset({"video-00", "video-01", "video-02"}))
    checked = check(few, Recipe.parse(SINGLE), workspace)
    assert set(checked.verdicts.values()) == {"not known"}
    assert checked.videos == 3


def test_a_check_that_is_stopped_goes_on(planted, tmp_path, monkeypatch):
    workspace, inputs = planted
    whole, trained = check(inputs, Recipe.parse(SINGLE), workspace), []
    real = label_check.train

    def stopping(*arguments, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(real(*arguments, **options))
        return trained[-1]

    other = Workspace(tmp_path)
    monkeypatch.setattr(label_check, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        check(inputs, Recipe.parse(SINGLE), other)
    monkeypatch.setattr(label_check, "train", real)
    assert check(inputs, Recipe.parse(SINGLE), other) == whole


def test_times_have_no_part_in_it(planted, tmp_path):
    """Replace all segments; the figures stay the same."""
    workspace, inputs = planted
    content = json.loads(inputs.annotations.read_text())
    for number, video in enumerate(content["database"].values()):
        for segment in video["annotations"]:
            segment["segment"] = [float(number), number + 3.5]
    moved = TrainInputs(inputs.store, write_json(tmp_path / "planted.json", content))
    recipe = Recipe.parse(SINGLE)
    assert check(moved, recipe, Workspace(tmp_path)) == check(inputs, recipe, workspace)


@pytest.mark.slow
def test_an_ensemble_is_checked_and_says_so_everywhere(planted):
    workspace, inputs = planted
    runs = train_recipe(inputs, Recipe.parse(ENSEMBLE), (1,), workspace)
    assert [[member.seed for member in run.members()] for run in runs] == [[2, 3, 2, 3]]
    assert workspace.newest_run() == runs[0].folder
    judged = label_check.check_runs(inputs, Recipe.parse(ENSEMBLE), runs, workspace)
    figures = open_run(runs[0].folder).label_check
    assert set(figures["classes"]) == set(CLASSES)
    assert all(0 < each["agreement"] <= 1 for each in figures["classes"].values())
    assert read_made(judged[0].detections())["label_check"] == dict.fromkeys(CLASSES, "learned")
    shown = call("show", judged[0].folder).stdout
    assert "dive: learned (AUC" in shown
    assert "seeds agree on" in shown


def test_train_checks_where_it_is_asked_to(planted, tmp_path):
    _, inputs = planted
    lines = ["[head]", 'name = "basnet"', "width = 16", "filter_width = 8", "[train]"]
    lines += ["steps = 40", "batch_size = 8", 'sampling = "full"', "learning_rate = 3e-3"]
    (tmp_path / "own.toml").write_text("\n".join(lines))
    options = ("--store", inputs.store, "--annotations", inputs.annotations, "--workspace", tmp_path / "workspace")
    plain = json.loads(call("train", tmp_path / "own.toml", *options, "--json").stdout)
    assert "label_check" not in plain
    result = call("train", tmp_path / "own.toml", *options, "--check", "--json")
    assert set(json.loads(result.stdout)["label_check"]["classes"]) == set(CLASSES)
    assert "label check: dive: " in result.stderr
