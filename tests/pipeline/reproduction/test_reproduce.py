"""`wtal reproduce`: published files in, one table of methods and their second stages out; and its dry run."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.disks import Disk
from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.annotations import read_annotations
from wtal.data.files import write_json
from wtal.errors import DiskFullError, UsageError
from wtal.pipeline.comparison.compare import SECOND_STAGE
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.reproduction.forecast import Share, expected_of
from wtal.pipeline.reproduction.reproduce import DATASETS, methods_of, planned_methods
from wtal.pipeline.reproduction.sizes import by_length, sizes_of, spread, write_sample
from wtal.pipeline.reproduction.trial import Measured, try_method
from wtal.pipeline.runs import Run

SMALL = (
    "--set", "train.steps=6", "--set", "train.batch_size=4", "--set", "train.sample_length=40",
    "--set", "refine.train.steps=4", "--set", "refine.train.batch_size=3", "--set", "refine.student.width=16",
)  # fmt: skip
NARROW = (*SMALL, "--set", "head.width=16")
SECONDS = 16 / 25


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Write planted features in files per stream, `features/{rgb,flow}/ID.npy`, with THUMOS14's subsets."""
    root = tmp_path_factory.mktemp("published")
    database = {}
    for number, video in enumerate(planted_videos(10, 0, SECONDS)):
        for stream, values in video.streams.items():
            (root / "features" / stream).mkdir(parents=True, exist_ok=True)
            np.save(root / "features" / stream / f"{video.id}.npy", values)
        segments = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        duration = len(video.streams["rgb"]) * SECONDS
        subset = "validation" if number < 6 else "test"
        database[video.id] = {"subset": subset, "duration": duration, "annotations": segments}
    write_json(root / "truth.json", {"database": database})
    return root


def call(root, *arguments, code=0, workspace="workspace"):
    own = ("--annotations", root / "truth.json", "--workspace", root / workspace)
    result = CliRunner().invoke(main, [str(word) for word in ("reproduce", *arguments, *own)])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def test_a_table_of_methods_and_their_second_stages(published):
    words = ("thumos14", "--features", published / "features", "--methods", "basnet,um", "--seeds", "0", *NARROW)
    made = call(published, *words, "--out", published / "out", "--json")
    table = json.loads((published / "out/table.json").read_text())
    assert table == json.loads(made.stdout)
    names = [f"thumos14/{name}{stage}" for name in ("basnet", "um") for stage in ("", f" {SECOND_STAGE}")]
    assert [row["name"] for row in table["rows"]] == names
    assert [row["second_stage"] for row in table["rows"]] == [False, True, False, True]
    assert [bool(row["reported"]) for row in table["rows"]] == [True, False, True, False]
    heads, students = ([Run.open(Path(row["runs"][0])) for row in table["rows"][i::2]] for i in (0, 1))
    assert [run.refined for run in (*heads, *students)] == [False, False, True, True]
    for head, student in zip(heads, students, strict=True):
        assert student.teacher().folder.resolve() == head.folder.resolve()
    for head, student in zip(table["rows"][::2], table["rows"][1::2], strict=True):
        assert student["parameters"] > head["parameters"]
        assert student["train_seconds"] > head["train_seconds"]
    check_figures(table["rows"][1])
    check_origin(table, published)
    text = (published / "out/table.md").read_text()
    assert all(f"| {name} |" in text for name in names)
    assert table["made_of"]["annotations"]["digest"][:12] in text
    checkpoints = {path: path.stat().st_mtime_ns for path in published.glob("workspace/runs/*/*/checkpoint-*.pt")}
    again = call(published, *words, "--json")
    assert json.loads(again.stdout) == table
    assert checkpoints == {
        path: path.stat().st_mtime_ns for path in published.glob("workspace/runs/*/*/*.pt") if path in checkpoints
    }
    assert (published / "workspace/tables/thumos14/table.md").read_text() == text


def check_figures(row):
    """A row's figures are those of `wtal evaluate` on its run."""
    protocol, _, tious = row["conditions"]["protocols"].partition(", tiou ")
    assert protocol == "thumos14"
    asked = ["evaluate", row["runs"][0], "--protocol", protocol, "--tiou", tious, "--json"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    alone = json.loads(result.stdout)["mAP"]
    assert row["mAP"]["0.5"]["mean"] == pytest.approx(alone["0.5"])


def check_origin(table, root):
    made_of = table["made_of"]
    assert {"wtal", "python", "torch", "numpy"} <= made_of["versions"].keys()
    assert made_of["features"]["identity"]["layout"] == "npy-per-video"
    assert made_of["features"]["videos"] == 10
    assert made_of["annotations"]["videos"] == len(read_annotations(root / "truth.json").videos)
    assert made_of["recipes"].keys() == {row["name"] for row in table["rows"]}
    assert len(set(made_of["recipes"].values())) == 4


def test_a_method_that_fails_does_not_stop_the_others(published):
    words = ("thumos14", "--features", published / "features", "--methods", "co2net,basnet", "--seeds", "0")
    made = call(published, *words, *NARROW, "--no-refine", "--out", published / "failing", "--json", code=3)
    first, second = json.loads(made.stdout)["rows"]
    assert "head.pairs = 3 needs train.batch_size >= 6" in first["failure"]
    assert second["mAP"]["0.5"]["mean"] >= 0
    assert "failed, head.pairs" in (published / "failing/table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["thumos14", "--methods", "rskpp"], "there is no method 'rskpp' for thumos14; did you mean 'rskp'?"),
        (["thumos14", "--methods", "rskp,rskp"], "takes each method once"),
        (["thumos14", "--methods", ","], "--methods takes names separated by commas"),
        (["thumos"], "there is no 'thumos'; did you mean 'thumos14'?"),
        (["thumos14", "--seeds", "x"], "--seeds takes different whole numbers"),
        (["thumos14"], "--features is required"),
        (["thumos14", "--features", "nothing"], "nothing does not exist"),
        (["thumos14", "--features", "nothing", "--dry-run"], "nothing does not exist"),
        (["thumos14", "--features", ".", "--protocol", "snippet-bets"], "did you mean 'snippet-best'?"),
        (["hacs", "--dry-run"], "the annotations have no subset 'training'"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(published, arguments, words):
    result = call(published, *arguments, "--device", "cpu", code=2, workspace="empty")
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (published / "empty").exists()


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_has_methods_each_with_a_second_stage(dataset):
    plans = planned_methods(dataset)
    assert [plan.second_stage for plan in plans] == [False, True] * len(methods_of(dataset))
    for head, student in zip(plans[::2], plans[1::2], strict=True):
        assert student.name == f"{head.name} {SECOND_STAGE}"
        assert student.printed.rules == head.printed.rules
        assert bool(student.printed.mAP) == (load_recipe(head.name).refine is not None)
        assert not (head.printed.mAP and student.printed.mAP)
        assert student.recipe.training_identity() == head.recipe.training_identity()
    with pytest.raises(UsageError, match="no dataset 'kth'"):
        methods_of("kth")


@pytest.mark.slow
def test_a_dry_run_tries_methods_and_leaves_nothing(published):
    words = ("thumos14", "--methods", "basnet", "--seeds", "0,1", *NARROW, "--dry-run", "--device", "cpu")
    made = call(published, *words, "--features", published / "features", "--json", workspace="dry")
    told = json.loads(made.stdout)
    (method,) = told["methods"]
    assert (method["method"], method["steps"], method["student_steps"]) == ("thumos14/basnet", 6, 4)
    assert method["head_seconds"] >= 6 * method["seconds_per_step"] > 0
    assert method["second_stage_seconds"] >= 4 * method["student_seconds_per_step"] > 0
    once = method["head_seconds"] + method["second_stage_seconds"]
    assert told["seconds"] == pytest.approx(told["import_seconds"] + 2 * once)
    rows = sum(len(np.load(path)) for path in (published / "features/rgb").iterdir())
    assert told["features_bytes"] == rows * 2 * 32 * 4
    assert told["memory_bytes"] > 50e6
    assert not (published / "dry").exists()


def test_a_full_disk_stops_a_trial_and_blames_no_method(published, tmp_path, monkeypatch):
    labels = read_annotations(published / "truth.json")
    sizes = sizes_of("thumos14", labels, published / "features", published / "truth.json")
    write_sample(sizes, sizes.rows, tmp_path / "store")
    recipe = load_recipe("thumos14/basnet", [word for word in NARROW if word != "--set"])
    Disk(monkeypatch).fill(1000)
    with pytest.raises(DiskFullError, match="No space left on device; it takes"):
        try_method(recipe, tmp_path / "store", published / "truth.json", tmp_path / "work", True, "cpu", 1)


def test_a_trial_measures_what_is_done_once_apart(published, tmp_path):
    labels = read_annotations(published / "truth.json")
    sizes = sizes_of("thumos14", labels, published / "features", published / "truth.json")
    assert write_sample(sizes, sizes.rows, tmp_path / "store") > 0
    small = [word for word in NARROW if word != "--set"]
    recipe = load_recipe("thumos14/rskp", [*small, "train.epochs=0", "head.n_mu=2", "head.memory_slots=2"])
    measured = try_method(recipe, tmp_path / "store", published / "truth.json", tmp_path / "work", True, "cpu", 1)
    assert not measured.failure
    for name in ("step", "passes", "detection", "lesson", "student_step", "student_detection", "memory"):
        assert getattr(measured, name) > 0, name
    refused = load_recipe("thumos14/co2net", ["train.batch_size=4"])
    failed = try_method(refused, tmp_path / "store", published / "truth.json", tmp_path / "odd", True, "cpu", 1)
    assert "head.pairs" in failed.failure


def test_what_a_trial_took_is_multiplied_by_what_there_is(published):
    plan, _ = planned_methods("thumos14", ["basnet"], ["train.steps=1000", "refine.train.steps=600"])
    measured = Measured(0.5, 3.0, 1.0, 2.0, 4.0, 0.25, 5.0, 0.5, 6.0, memory=10_000_000)
    share = Share(videos=200, rows=4000, reported=3000, sample_rows=1000, sample_reported=500)
    expected = expected_of(plan, measured, share, True, row_bytes=1000)
    assert expected.head == pytest.approx(1000 * 0.5 + 4 * 3 + 6 * 2 + (1000 / 100 + 1) * 1)
    assert expected.second_stage == pytest.approx(600 * 0.25 + 6 * 6 + 4 * (4 + 5) + (600 / 100 + 1) * 0.5)
    assert expected.memory == 10_000_000 - 1500 * 1000
    alone = expected_of(plan, measured, share, False, row_bytes=1000)
    assert (alone.head, alone.student_steps, alone.second_stage) == (expected.head, 0, 0.0)


def test_sizes_are_those_of_files_of_a_store_or_of_durations(published, tmp_path):
    labels = read_annotations(published / "truth.json")
    rows = {path.stem: len(np.load(path)) for path in (published / "features/rgb").iterdir()}
    of_files = sizes_of("thumos14", labels, published / "features", published / "truth.json")
    assert (of_files.rows, of_files.dims) == (rows, {"flow": 32, "rgb": 32})
    write_sample(of_files, rows, tmp_path / "store")
    of_store = sizes_of("thumos14", labels, tmp_path / "store", published / "truth.json")
    assert (of_store.rows, of_store.dims) == (rows, of_files.dims)
    bare = sizes_of("thumos14", labels, None, published / "truth.json")
    assert bare.dims == {"rgb": 1024, "flow": 1024}
    assert all(abs(bare.rows[name] - rows[name]) <= 1 for name in rows)
    assert {s: v.shape for s, v in bare.load("video-00").items()} == dict.fromkeys(
        bare.dims, (bare.rows["video-00"], 1024)
    )
    assert sizes_of("hacs", labels, None, published / "truth.json").dims == {"rgb": 2048}
    chosen = by_length(of_files, rows, 3)
    assert {max(rows, key=rows.get), min(rows, key=rows.get)} <= {
        *chosen,
        *(n for n in rows if rows[n] in map(rows.get, chosen)),
    }
    assert spread(["a", "b"], 5) == ["a", "b"]
