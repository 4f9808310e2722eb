"""`wtal tune`: a choice with segments that are not reported, a note on that, and usable output."""

import json
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.errors import ConfigError, UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.tune import SPACE, parse_space
from wtal.pipeline.workspace import Workspace

RECIPE = """
[head]
name = "basnet"
width = 16
filter_width = 8
[train]
steps = 30
batch_size = 8
sampling = "full"
learning_rate = 3e-3
[localize]
signal = "product"
activation = "softmax"
threshold_stop = 0.95
threshold_step = 0.1
nms_tiou = 1.0
[evaluate]
train_subset = "training@!0/4"
test_subset = "validation"
tiou = "0.3:0.7:0.2"
"""


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run of two seeds on planted features, with a held-out fold of its training subset."""
    root = tmp_path_factory.mktemp("tune")
    workspace = Workspace(root / "workspace")
    writer = StoreWriter.open(workspace.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for number, video in enumerate(planted_videos(16, seed=0)):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        seconds = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        database[video.id] = {"subset": "training" if number < 12 else "validation", "annotations": seconds}
    writer.publish()
    write_json(workspace.annotations / "planted.json", {"database": database})
    (root / "recipe.toml").write_text(RECIPE)
    call("train", root / "recipe.toml", "--seeds", "0,1", "--workspace", workspace.root)
    (found,) = workspace.runs.iterdir()
    return found


def tuned(run, *arguments):
    return json.loads(call("tune", run, "--json", "--subset", "training@0/4", *arguments).stdout)


def test_the_best_of_what_is_tried_is_written_and_used(run, tmp_path):
    made = tuned(run, "--over", "nms_tiou=0.3,0.5", "--over", "outer_weight", "--out", tmp_path / "own.toml")
    assert made["mAP"] >= made["mAP_before"]
    assert made["best"]["nms_tiou"] in (0.3, 0.5)  # 1.0 suppresses nothing
    assert made["before"]["nms_tiou"] == 1.0
    config = LocalizeConfig(preset=made["file"])
    assert {key: getattr(config, key) for key in made["best"]} == made["best"]
    assert config.signal == "product"
    assert config.tuned_with_segments
    (file,) = call("detect", run / "seed-0", "--set", f"localize.preset={made['file']}").stdout.split()
    said = json.loads(Path(file).read_text())["wtal"]
    assert said["tuned_with_segments"]
    assert said["localize"]["nms_tiou"] == made["best"]["nms_tiou"]
    table = call(
        "evaluate", file, "--annotations", run.parents[1] / "annotations/planted.json", "--subset", "training@0/4"
    )
    assert "average" in table.stdout


def test_a_run_with_a_tuned_localization_says_so(run, tmp_path):
    made = tuned(run, "--over", "nms_tiou=0.4", "--out", tmp_path / "own.toml")
    workspace = run.parents[1]
    recipe = run.parents[2] / "recipe.toml"
    options = ("--set", f"localize.preset={made['file']}", "--set", "train.steps=2", "--workspace", workspace)
    call("train", recipe, *options)
    flags = [json.loads(path.read_text())["tuned_with_segments"] for path in workspace.glob("runs/*/seed-0/run.json")]
    assert sorted(flags) == [False, True]


def test_both_searches_agree_where_one_key_is_tried(run):
    over = ("--over", "nms_tiou=0.2,0.4,0.6")
    one, other = tuned(run, *over), tuned(run, *over, "--method", "grid")
    assert (one["best"], one["mAP"]) == (other["best"], other["mAP"])
    assert one["tried"] == other["tried"] == 4
    assert one["file"] == other["file"]


def test_a_grid_is_every_combination_and_presets_take_part(run):
    made = tuned(run, "--method", "grid", "--over", "preset=rskp,um", "--over", "nms_tiou=0.3,0.5")
    assert made["tried"] == 5


def test_the_text_says_what_chose(run):
    text = call("tune", run / "seed-1", "--over", "nms_tiou=0.4", "--subset", "training@0/4").stdout
    assert "tuned with segments" in text
    assert text.splitlines()[-1].endswith(".toml")


def test_reported_videos_choose_nothing(run, tmp_path):
    for subset in ("validation", "*", "training,validation", "validation@0/2"):
        result = call("tune", run, "--subset", subset, code=2)
        assert "reported subset 'validation', which must not be used for selection" in result.stderr
    renamed = json.loads((run.parents[1] / "annotations/planted.json").read_text())
    for video in renamed["database"].values():
        video["subset"] = "all"
    write_json(tmp_path / "renamed.json", renamed)
    result = call("tune", run, "--subset", "all", "--annotations", tmp_path / "renamed.json", code=2)
    assert "reported" in result.stderr


def test_videos_that_trained_are_told_of(run):
    result = call("tune", run, "--over", "nms_tiou=0.4")
    assert "9 of 9 videos of 'training@!0/4' were used to train the head" in result.stderr
    assert (
        "used to train the head" not in call("tune", run, "--over", "nms_tiou=0.4", "--subset", "training@0/4").stderr
    )


def test_what_is_tried():
    assert parse_space([]) == SPACE
    assert parse_space(["nms_tiou"]) == {"nms_tiou": SPACE["nms_tiou"]}
    assert parse_space(["localize.signal=cas, product"]) == {"signal": ("cas", "product")}
    assert parse_space(["tolerances=[[0.0], [0.0, 0.2]]"]) == {"tolerances": ([0.0], [0.0, 0.2])}
    for wrong, error in (
        ("smooth", UsageError),
        ("nms_tiou=", UsageError),
        ("nms_tiou=0.5,,0.7", UsageError),
        ("nms_tio=0.5", UsageError),
        ("nms_tiou=2", UsageError),
        ("preset=rskb", ConfigError),
    ):
        with pytest.raises(error):
            parse_space([wrong])


def test_activations_are_those_of_a_run_whatever_settings_came_later(run, monkeypatch):
    """A run of an older version lacks newer keys; its activations are kept."""
    call("detect", run)
    plain = Recipe.plain

    def newer(recipe):
        values = plain(recipe)
        return {**values, "extract": {**values["extract"], "newer": 1}}

    monkeypatch.setattr(Recipe, "plain", newer)
    call("detect", run, "--set", "localize.nms_tiou=0.5")


def test_a_folder_to_write_to_is_refused_before_the_search(run, tmp_path, monkeypatch):
    monkeypatch.setattr("wtal.pipeline.tune._scorer", None)  # start of the search
    said = call("tune", run, "--out", tmp_path, code=2).stderr
    assert (
        said
        == f"wtal: --out takes the preset's file, and {tmp_path} is a folder; write --out {tmp_path / 'tuned.toml'}\n"
    )


def test_what_the_localization_does_not_look_at_is_not_tried(run):
    """Separate spaces for soft suppression and for listed thresholds."""
    settings = ("--set", 'localize.suppression="soft"', "--set", "localize.thresholds=[0.1, 0.3]")
    content = tuned(run, "--subset", "training@0/4", *settings)
    idle = ("nms_tiou", "threshold_start", "threshold_stop")
    distinct = 1 + sum(len(values) for key, values in SPACE.items() if key not in idle)
    assert content["tried"] <= distinct * 3
    assert not set(idle) & content["best"].keys()
    preset = tomllib.loads(Path(content["file"]).read_text())["localize"]
    assert preset["suppression"] == "soft"
