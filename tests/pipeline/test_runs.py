"""Runs: opened once, parsed once, with typos reported at their source."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.detections import read_detections
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.errors import ConfigError, UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.train_members import resolve_recipe
from wtal.pipeline.exchange.submit import submit
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.runs import Run, open_run, open_runs
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of a few steps on planted features, with their detections."""
    root = Workspace(tmp_path_factory.mktemp("runs"))
    writer = StoreWriter.open(root.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for number, video in enumerate(planted_videos(8, seed=0)):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        seconds = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        database[video.id] = {"subset": "training" if number < 5 else "validation", "annotations": seconds}
    store = writer.publish()
    annotations = write_json(root.annotations / "planted.json", {"database": database})
    settings = {
        "head": {"name": "basnet", "width": 8, "filter_width": 8},
        "train": {"steps": 4, "batch_size": 4, "sampling": "full"},
        "localize": {"activation": "softmax", "threshold_step": 0.1},
    }
    trained = train(TrainInputs(store.path, annotations), Recipe.parse(settings), (0, 1), root)
    for run in trained:
        detect(run)
    return trained


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def once(folder):
    return {str(folder / name): 1 for name in ("finished.json", "run.json")}


@pytest.mark.parametrize(
    "command",
    [
        ("detect", "--set", "localize.nms_tiou=0.4"),
        ("detect", "--use-labels"),
        ("evaluate",),
        ("evaluate", "--task", "proposals"),
        ("evaluate", "--task", "classification"),
        ("diagnose",),
        ("diagnose", "--errors-only"),
        ("submit", "--challenge", "hacs"),
        ("report",),
        ("export", "--to", "csv"),
        ("review next",),
        ("review show",),
    ],
    ids=" ".join,
)
def test_a_run_is_read_and_its_recipe_parsed_once_per_command(runs, counted, command, tmp_path):
    folder = runs[0].folder
    where = {
        "diagnose": ("--out", tmp_path),
        "submit": ("--out", tmp_path / "hacs.json"),
        "report": ("--out", tmp_path),
        "export": ("--out", tmp_path),
    }.get(command[0], ())
    assert counted(call, *command[0].split(), folder, *command[1:], *where) == (once(folder), 1)


@pytest.mark.parametrize("command", [("detect",), ("evaluate",), ("tune", "--over", "nms_tiou=0.4")], ids=" ".join)
def test_every_seed_is_read_once(runs, counted, command, tmp_path):
    where = ("--out", tmp_path / "own.toml") if command[0] == "tune" else ()
    opened, parsed = counted(call, command[0], runs[0].folder.parent, *command[1:], *where)
    assert opened == {path: 1 for run in runs for path in once(run.folder)}
    assert parsed <= 2


def test_a_run_is_read_once_to_import_verdicts(runs, counted, tmp_path):
    folder = runs[0].folder
    none = write_json(tmp_path / "verdicts.json", {"format": 1, "verdicts": [], "looked_at": []})
    assert counted(call, "review", "import", folder, none) == (once(folder), 1)


def test_a_run_that_is_open_is_submitted_without_being_read_again(runs, counted, tmp_path):
    run = Run.open(runs[0].folder)
    assert counted(submit, run, "hacs", Workspace(tmp_path)) == ({}, 1)
    (written,) = (tmp_path / "submissions").iterdir()
    named = tmp_path / "named.json"
    call("submit", run.folder, "--challenge", "hacs", "--out", named)
    assert written.read_bytes() == named.read_bytes()


def test_one_of_several_seeds_is_submitted(runs, tmp_path):
    folder = runs[0].folder.parent
    refused = call("submit", folder, "--challenge", "hacs", "--out", tmp_path / "hacs.json", code=2).stderr
    assert f"{folder} has 2 seeds, and one run is wanted; pass {runs[0].folder} or another of them" in refused
    assert open_run(runs[1].folder).seed == 1


def test_a_typo_in_an_override_is_blamed_on_the_override(runs):
    wrong = "localize.nms_tio=0.4"
    said = call("detect", runs[0].folder, "--set", "localize.upsample=4", "--set", wrong, code=2).stderr
    assert said.startswith(f"wtal: --set {wrong}: unknown key 'localize.nms_tio'; did you mean 'localize.nms_tiou'? ")
    said = call("tune", runs[0].folder, "--set", "localize.nms_tiou=2", code=2).stderr
    assert said.startswith("wtal: --set localize.nms_tiou=2: localize.nms_tiou: wanted a number from 0 to 1, got 2")


def test_overrides_that_are_wrong_together_are_blamed_together(runs):
    apart = ["localize.threshold_stop=20000", "localize.threshold_step=1"]
    with pytest.raises(ConfigError, match="threshold_step"):
        runs[0].localize(apart)
    assert runs[0].localize(apart[1:]).threshold_step == 1.0


def test_a_damaged_recipe_is_blamed_on_its_run(runs, tmp_path):
    record = json.loads((runs[0].folder / "run.json").read_text())
    record["recipe"]["localize"]["nms_tio"] = 0.4
    write_json(tmp_path / "run.json", record)
    with pytest.raises(
        ConfigError, match=r"run\.json is damaged \(unknown key 'recipe\.localize\.nms_tio'.*\); restore it, train"
    ):
        Run.open(tmp_path).localize()


def test_a_run_has_what_its_record_says(runs):
    run = runs[0]
    record = json.loads((run.folder / "run.json").read_text())
    assert (run.ensemble, run.finished, run.tuned_with_segments) == (None, True, False)
    assert (run.ensemble_digest, run.member_weights) == (None, ())
    assert run.classes == tuple(record["classes"]) == run.annotations().classes
    assert run.store().dims == record["feature_dims"] == run.feature_dims
    assert run.store_name == run.store_folder().name == run.store().path.name
    assert [each.seed for each in runs] == [0, 1]
    assert run.to_json() == {"path": str(run.folder), "finished": True, **record}
    assert run.recipe.head_name == "basnet"
    assert run.detections() == run.detections_file() == run.folder / "detections" / "detections.json"
    assert run.detections_file(run.localize()) == run.detections_file()
    assert run.localize(["localize.nms_tiou=0.4"]) == run.recipe.localize.model_copy(update={"nms_tiou": 0.4})
    assert run.localize(["localize.preset=rskp"]) == LocalizeConfig(preset="rskp")


def test_a_folder_with_several_seeds_is_several_runs(runs):
    seeds = [run.folder for run in runs]
    assert [run.folder for run in open_runs(seeds[0].parent)] == seeds
    assert [run.folder for run in open_runs(seeds[1])] == seeds[1:]


def test_what_is_no_run_is_refused(runs, tmp_path):
    with pytest.raises(UsageError, match=r"is not a run: it holds neither run\.json nor"):
        open_runs(tmp_path)
    with pytest.raises(UsageError, match="is not a run, but detections; pass a run's folder"):
        open_runs(runs[0].detections())
    with pytest.raises(WtalError, match="cannot be read as a run"):
        Run.open(tmp_path)
    write_json(tmp_path / "run.json", {"recipe": {}})
    with pytest.raises(WtalError, match="it lacks annotations, classes"):
        Run.open(tmp_path)
    with pytest.raises(UsageError, match=r"no such detections yet; run: wtal detect .* --streams rgb"):
        runs[0].detections(streams="rgb")


def test_show_prints_what_differs_from_the_defaults(runs):
    lines = call("show", runs[0].folder).stdout.splitlines()
    assert "settings   those that differ from the defaults, which are in brackets" in lines
    assert "train      steps: 4 (1500), batch_size: 4 (16), sampling: full (perturb)" in lines
    assert "localize   activation: softmax (none), threshold_step: 0.1 (0.025)" in lines
    (seed,) = json.loads(call("show", runs[0].folder, "--json").stdout)["seeds"]
    assert seed == runs[0].to_json()
    assert seed["recipe"] == json.loads((runs[0].folder / "run.json").read_text())["recipe"]


def test_the_average_over_all_thresholds_is_printed_once(runs):
    folder = runs[0].folder
    lines = call("evaluate", folder, "--subset", "training").stdout.splitlines()
    assert [line.rpartition(" ")[0] for line in lines if line.startswith("average")] == [
        "average 0.1:0.5",
        "average 0.3:0.7",
        "average 0.1:0.7",
        "average 0.1:0.9",
    ]
    judged = json.loads(call("evaluate", folder, "--subset", "training", "--json").stdout)
    assert lines[-1] == f"average 0.1:0.9 {100 * judged['average']:.2f}"
    few = call("evaluate", folder, "--subset", "training", "--tiou", "0.5,0.7").stdout.splitlines()
    assert [line.rpartition(" ")[0] for line in few if line.startswith("average")] == ["average"]
    row, top = call("evaluate", folder, "--subset", "training", "--format", "csv").stdout.splitlines()[:2]
    assert float(dict(zip(row.split(","), top.split(","), strict=True))["average 0.1:0.9"]) == judged["average"]


def test_show_compares_with_the_recipe_of_the_run_and_prints_everything_when_told(tmp_path, runs):
    record = json.loads((runs[0].folder / "run.json").read_text())
    recipe = load_recipe("thumos14/rskp", ["train.steps=7", "head.dropout=0.25"])
    record["recipe"] = resolve_recipe(recipe).plain()
    folder = tmp_path / "runs" / "rskp" / "seed-0"
    write_json(folder / "run.json", record)
    text = call("show", folder).stdout
    assert "recipe     thumos14/rskp, RSKP on THUMOS14" in text.splitlines()
    assert (
        "settings   those that differ from the recipe thumos14/rskp, whose values are in brackets" in text.splitlines()
    )
    assert "head       rskp: dropout: 0.25 (0.6)" in text.splitlines()
    assert "train      steps: 7 (1500), epochs: 0 (200)" in text.splitlines()
    assert "localize   as the recipe" in text.splitlines()
    everything = call("show", folder, "--all").stdout
    assert everything.startswith(text.rstrip("\n"))
    assert "\nlocalize.nms_tiou = 0.5\n" in everything
    assert "\nhead.n_mu = 8\n" in everything
    assert max(map(len, everything.splitlines())) < 200


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("detect", "--set", "train.steps=5"), "--set train.steps=5: a trained run accepts only localize.KEY=VALUE; "),
        (
            ("tune", "--set", "nms_tio=1"),
            "--set nms_tio=1: a trained run accepts only localize.KEY=VALUE; did you mean ",
        ),
        (
            ("refine", "--set", "train.steps=5"),
            "--set train.steps=5: the second stage accepts only refine.KEY=VALUE",
        ),
    ],
)
def test_keys_of_other_sections_are_blamed_on_the_call(arguments, line, runs):
    refused = call(arguments[0], runs[0].folder, *arguments[1:], code=2)
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"wtal: {line}")


def test_detection_in_one_subset_of_the_store(runs):
    """Activations are made for its videos alone, and the file holds no other."""
    run = runs[1]
    (run.folder / "detections").rename(run.folder / "before")
    (run.folder / "activations").rename(run.folder / "activations-before")
    try:
        path = Path(call("detect", run.folder, "--subset", "validation").stdout.strip())
        wanted = [video.id for video in run.annotations().select("validation")]
        assert sorted(read_detections(path)) == list(FeatureStore.open(run.activations_folder()).ids) == wanted
        assert "no subset 'test'" in call("detect", run.folder, "--subset", "test", code=2).stderr
    finally:
        for name in ("detections", "activations"):
            shutil.rmtree(run.folder / name, ignore_errors=True)
        (run.folder / "before").rename(run.folder / "detections")
        (run.folder / "activations-before").rename(run.folder / "activations")
