"""`wtal compare`: rows trained once, figures next to the papers', and refused comparisons."""

import csv
import io
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.planted import planted_videos
from wtal.cli import main
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.pipeline.comparison import compare as module
from wtal.pipeline.comparison.ablation import ablation_names, load_ablation, recipe_of
from wtal.pipeline.comparison.compare import Comparison, Row, planned_rows
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.train import resolve_early
from wtal.pipeline.workspace import Workspace

NARROW = """
title = "narrow"
[head]
name = "basnet"
width = 16
filter_width = 8
[train]
steps = {steps}
batch_size = 4
learning_rate = 3e-3
sampling = "full"
[localize]
threshold_stop = 0.9
[evaluate]
tiou = "0.1:0.7:0.1"
[reported]
source = "A paper, Table 1"
features = "I3D"
mAP = {{ "0.5" = 27.0, "0.1:0.5" = 40.0 }}
"""
TABLE = """
title = "A paper, Table 2"
source = "A paper, Table 2 on its data"
set = ["train.steps=6"]
[[rows]]
name = "whole"
reported = { "0.5" = 27.0 }
[[rows]]
name = "without the norm"
set = ["head.attention_weight=0"]
[[rows]]
name = "another recipe"
recipe = "longer"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Workspace with planted features, recipes `short.toml` and `longer.toml`, and a table of three rows."""
    root = tmp_path_factory.mktemp("compare")
    workspace = Workspace(root / "workspace")
    writer = StoreWriter.open(workspace.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for number, video in enumerate(planted_videos(12, seed=0)):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        seconds = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        database[video.id] = {"subset": "training" if number < 8 else "validation", "annotations": seconds}
    writer.publish()
    write_json(workspace.annotations / "planted.json", {"database": database})
    (root / "short.toml").write_text(NARROW.format(steps=6))
    (root / "longer.toml").write_text(NARROW.format(steps=8))
    (root / "table.toml").write_text(TABLE)
    return root


def call(place, *arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments), "--workspace", str(place / "workspace")])


def test_two_recipes_two_seeds_one_table(place):
    result = call(place, place / "short.toml", place / "longer.toml", "--seeds", "0,1", "--json")
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert table["comparable"]
    assert [len(row["runs"]) for row in table["rows"]] == [2, 2]
    for row in table["rows"]:
        assert set(row["mAP"]) == {"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.1:0.7", "0.1:0.5"}
        found = {key: value["seeds"] for key, value in row["mAP"].items()}
        for seed in (0, 1):
            five = [found[f"0.{i}"][seed] for i in range(1, 6)]
            assert found["0.1:0.5"][seed] == pytest.approx(np.mean(five))
        assert row["mAP"]["0.5"]["mean"] == pytest.approx(np.mean(found["0.5"]))
        assert row["mAP"]["0.5"]["spread"] == pytest.approx(np.std(found["0.5"], ddof=1))
        assert row["reported"] == {"0.5": 27.0, "0.1:0.5": 40.0}
        assert row["train_seconds"] > 0
    assert any("not comparable with reported rows" in remark for remark in table["remarks"])
    assert all(row["reported_comparable"] is False for row in table["rows"] if row["reported"])


def test_what_is_trained_is_taken_up(place):
    first = call(place, place / "short.toml", "--json")
    runs = sorted((place / "workspace/runs").glob("*/seed-*/checkpoint-*.pt"))
    times = [path.stat().st_mtime_ns for path in runs]
    second = call(place, place / "short.toml", "--json")
    assert first.stdout == second.stdout
    assert [path.stat().st_mtime_ns for path in runs] == times


def test_all_rows_are_judged_by_the_protocol_that_is_named(place, tmp_path):
    recipe = place / "short.toml"
    usual = json.loads(call(place, recipe, "--json").stdout)
    result = call(place, recipe, "--protocol", "snippet-best", "--json")
    assert result.exit_code == 0, result.output
    (row,), (before,) = json.loads(result.stdout)["rows"], usual["rows"]
    assert row["runs"] == before["runs"]
    assert row["conditions"]["protocols"] == "snippet-best, tiou 0.1:0.7:0.1"
    asked = ["evaluate", row["runs"][0], "--protocol", "snippet-best", "--tiou", "0.5", "--json"]
    alone = json.loads(CliRunner().invoke(main, asked).stdout)
    assert row["mAP"]["0.5"]["mean"] == pytest.approx(alone["mAP"]["0.5"])
    ranges = tmp_path / "ambiguous.txt"
    ranges.write_text("video-08 0 1000\n")
    dropped = json.loads(call(place, recipe, "--protocol", "snippet-best", "--ambiguous", ranges, "--json").stdout)
    assert dropped["rows"][0]["mAP"] != row["mAP"]
    assert re.fullmatch(
        r"snippet-best with ambiguous\.txt \(\w{12}\), tiou .*", dropped["rows"][0]["conditions"]["protocols"]
    )
    assert any(re.match(r".*short\.toml, seed-0: detections that touch an", one) for one in dropped["remarks"])
    idle = call(place, recipe, "--ambiguous", ranges)
    assert (idle.exit_code, idle.stdout) == (2, "")
    assert "the protocol 'activitynet' ignores --ambiguous; leave it out, or use --protocol thumos14-kit" in idle.stderr
    unknown = call(place, recipe, "--protocol", "snippet-bets")
    assert unknown.exit_code == 2
    assert "did you mean 'snippet-best'" in unknown.output
    ranges.write_text("video-08 0\n")
    broken = call(place, recipe, "--protocol", "snippet", "--ambiguous", ranges)
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert str(ranges) in broken.stderr


def test_the_forms_of_a_table_say_the_same(place):
    arguments = (place / "short.toml", "--seeds", "0,1")
    table = json.loads(call(place, *arguments, "--json").stdout)
    (wanted,) = table["rows"]
    mean = f"{100 * wanted['mAP']['0.5']['mean']:.1f} ±{100 * wanted['mAP']['0.5']['spread']:.1f}"
    text = call(place, *arguments).stdout
    assert mean in text
    assert re.search(r"^  reported .* 27 ", text, re.MULTILINE)
    markdown = call(place, *arguments, "--format", "markdown").stdout
    assert mean in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    (row,) = csv.DictReader(io.StringIO(call(place, *arguments, "--format", "csv").stdout))
    assert float(row["mAP@0.5"]) == wanted["mAP"]["0.5"]["mean"]
    assert float(row["reported@0.5"]) == 27.0
    assert int(row["parameters"]) == wanted["parameters"]


def test_an_ablation_makes_its_rows(place):
    result = call(place, place / "short.toml", "--ablation", place / "table.toml", "--json")
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert table["title"] == "A paper, Table 2"
    assert [row["name"] for row in table["rows"]] == ["whole", "without the norm", "another recipe"]
    assert [bool(row["reported"]) for row in table["rows"]] == [True, False, False]
    recipes = [json.loads((folder / "run.json").read_text())["recipe"] for folder in runs_of(table)]
    assert [recipe["head"]["attention_weight"] for recipe in recipes] == [1e-4, 0, 1e-4]
    assert [recipe["train"]["steps"] for recipe in recipes] == [6, 6, 6]


def test_what_makes_a_row_what_it_is_cannot_be_overridden(place):
    arguments = (place / "short.toml", "--ablation", place / "table.toml")
    result = call(place, *arguments, "--set", "head.attention_weight=0.5")
    assert result.exit_code == 2
    assert "row 'without the norm' sets head.attention_weight itself" in result.stderr
    assert planned_rows([str(place / "short.toml")], load_ablation(str(place / "table.toml")), ["train.steps=7"])


def runs_of(table):
    return [Path(row["runs"][0]) for row in table["rows"]]


def test_different_protocols_are_not_called_comparable(place):
    other = place / "other.toml"
    other.write_text(NARROW.format(steps=6).replace('tiou = "0.1:0.7:0.1"', 'tiou = "0.5"\ntest_subset = "training"'))
    table = json.loads(call(place, place / "short.toml", other, "--json").stdout)
    assert not table["comparable"]
    assert sum(remark.startswith("not comparable: ") for remark in table["remarks"]) == 2
    assert "not comparable: protocols differ" in call(place, place / "short.toml", other).stdout
    rows = [*csv.DictReader(io.StringIO(call(place, place / "short.toml", other, "--format", "csv").stdout))]
    assert [row["comparable"] for row in rows] == ["false", "false"]
    assert [row["reported_comparable"] for row in rows] == ["false", "false"]
    assert rows[0]["features"] == rows[1]["features"]
    assert rows[0]["videos"] != rows[1]["videos"]
    assert rows[0]["protocols"] != rows[1]["protocols"]
    assert "not comparable with reported rows" in rows[0]["remarks"]


def test_a_note_on_many_runs_is_one_line(place):
    (plan,) = planned_rows([str(place / "short.toml")], None)
    runs = tuple(Path(f"seed-{seed}") for seed in range(4))
    every = [(run.name, "no ambiguous ranges") for run in runs]
    rows = [Row(plan, runs, run_notes=(*every, ("seed-0", "odd"))), Row(plan, runs, run_notes=tuple(every))]
    assert Comparison("", (0, 1, 2, 3), tuple(rows)).remarks == [
        "all 8 runs: no ambiguous ranges",
        f"{plan.name}, seed-0: odd",
    ]
    first = "; ".join(f"{plan.name}, seed-{seed}" for seed in range(3))
    few = Comparison("", (0, 1, 2, 3), (rows[0], Row(plan, runs))).remarks[0]
    assert few == f"{first} and 1 more of 8 runs: no ambiguous ranges"


def test_a_row_that_fails_does_not_stop_the_others(place):
    broken = place / "broken.toml"
    broken.write_text(NARROW.format(steps=6) + '\n[extract]\nbackbone = "motion"\n')
    broken.write_text(broken.read_text().replace("learning_rate = 3e-3", "learning_rate = 1e30"))
    result = call(place, broken, place / "short.toml", "--format", "csv")
    assert result.exit_code == 3
    first, second = csv.DictReader(io.StringIO(result.stdout))
    assert "learning_rate" in first["failure"]
    assert second["failure"] == ""
    assert float(second["mAP@0.5"]) >= 0


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["nonsense"], "no recipe 'nonsense'", 2),
        (["collection", "--ablation", "tscn.tabel1a"], "no ablation 'tscn.tabel1a'", 2),
        (["collection", "--set", "head.widht=3"], "widht", 2),
        (["collection", "--seeds", "x"], "--seeds takes different whole numbers", 2),
    ],
)
def test_what_is_refused(place, arguments, words, code):
    result = call(place, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_store_is_chosen_by_its_backbone(place, tmp_path):
    from wtal.pipeline.comparison.compare import store_of

    workspace = Workspace(tmp_path)
    recipe = load_recipe("collection")
    with pytest.raises(UsageError, match="0 stores"):
        store_of(workspace, recipe)
    grid = SnippetGrid(Fraction(25), 24, Fraction(12), 12)
    for backbone in ("motion-pyramid", "i3d"):
        writer = StoreWriter.open(workspace.features / f"{backbone}-x", {"backbone": backbone})
        writer.write("a", grid, {"rgb": np.zeros((2, 3), np.float32)}, {"reader": "none"})
        writer.publish()
    assert store_of(workspace, recipe).name == "motion-pyramid-x"


@pytest.mark.parametrize("name", ablation_names())
def test_every_row_of_every_ablation_is_accepted(name):
    table = load_ablation(name)
    head = name.partition(".")[0]
    assert len({row.name for row in table.rows}) == len(table.rows)
    for dataset in ("thumos14", "kth"):
        made = [resolve_early(recipe_of(table, row, f"{dataset}/{head}")) for row in table.rows]
        settings = [
            (m.head, m.train.plain(), m.localize.plain(), row.stage) for m, row in zip(made, table.rows, strict=True)
        ]
        for i, one in enumerate(settings):
            assert one not in settings[:i], f"row {table.rows[i].name!r} of {name} is the same as another"


@pytest.mark.parametrize("option", ["--annotations", "--store"])
def test_a_path_that_is_not_there_is_told_at_once(place, option):
    result = call(place, place / "short.toml", option, place / "nothing")
    assert result.exit_code in (1, 2)
    assert str(place / "nothing") in result.stderr
    assert not result.stdout


def test_ranges_and_thresholds_of_the_papers_are_columns_of_every_row(place):
    wide = place / "wide.toml"
    wide.write_text(NARROW.format(steps=6).replace('"0.1:0.5" = 40.0', '"0.2:0.4" = 41.0, "0.95" = 1.0'))
    table = json.loads(call(place, place / "short.toml", wide, "--json").stdout)
    assert all({"0.1:0.5", "0.2:0.4"} <= set(row["mAP"]) for row in table["rows"])
    assert "@0.95" in call(place, wide).stdout


def test_a_second_stage_is_planned_where_it_is_asked_for_or_in_the_recipe(place, tmp_path):
    short, own = place / "short.toml", tmp_path / "own.toml"
    own.write_text(f"{NARROW.format(steps=6)}\n[refine]\nrounds = 1\n")
    asked = {(str(own), None): 2, (str(own), False): 1, (str(short), None): 1, (str(short), True): 2}
    for (name, wanted), count in asked.items():
        plans = planned_rows([name], None, (), wanted)
        assert [plan.second_stage for plan in plans] == [False, True][:count]
    assert planned_rows([str(own)], None)[1].recipe.refinement.rounds == 1
    table = place / "table.toml"
    staged = tmp_path / "staged.toml"
    staged.write_text(table.read_text().replace('name = "whole"', 'name = "whole"\nstage = 0'))
    for file, rows in ((table, [False, True] * 3), (staged, [False, *[False, True] * 2])):
        plans = planned_rows([str(short)], load_ablation(str(file)), (), True)
        assert [plan.second_stage for plan in plans] == rows


def test_a_row_for_which_memory_lacks_does_not_stop_the_others(place, monkeypatch):
    real = module.train_recipe

    def full(inputs, recipe, *rest):
        if recipe.train.steps == 8:
            raise RuntimeError(words)
        return real(inputs, recipe, *rest)

    monkeypatch.setattr(module, "train_recipe", full)
    words = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB"
    result = call(place, place / "longer.toml", place / "short.toml", "--json")
    assert result.exit_code == 3
    first, second = json.loads(result.stdout)["rows"]
    assert "can't allocate memory" in first["failure"]
    assert second["mAP"]["0.5"]["mean"] >= 0
    words = "a fault of the program"
    assert isinstance(call(place, place / "longer.toml").exception, RuntimeError)


def test_each_row_is_judged_by_its_papers_rules_where_they_are_known(place, tmp_path):
    ruled = tmp_path / "ruled.toml"
    ruled.write_text(NARROW.format(steps=6).replace("[reported]", '[reported]\nrules = "snippet-best"'))
    table = json.loads(call(place, place / "short.toml", ruled, "--protocol", "papers", "--json").stdout)
    protocols = [row["conditions"]["protocols"].partition(",")[0] for row in table["rows"]]
    assert protocols == ["activitynet", "snippet-best"]
    assert not table["comparable"]
    alone = json.loads(call(place, ruled, "--protocol", "snippet-best", "--json").stdout)
    assert table["rows"][1]["mAP"]["0.5"] == alone["rows"][0]["mAP"]["0.5"]
