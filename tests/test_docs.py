"""Pages are correct: commands parse, links have targets, examples run, every file's keys are explained."""

import ast
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.models.heads import test_heads as contract
from tests.support.planted import CLASSES, planted_videos
from tests.support.videos import constant, write_video
from wtal.cli import COMMANDS, main
from wtal.config import Config, override
from wtal.data.annotations import guess_format, read_annotations
from wtal.data.detections import read_detections
from wtal.data.files import write_json
from wtal.data.formats import DATASETS
from wtal.data.grid import SnippetGrid
from wtal.data.layouts import LAYOUTS
from wtal.data.published.layout_note import Note
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.eval.challenges import CHALLENGES
from wtal.eval.submission_check import check_submission
from wtal.extractors import create_backbone
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.flow import FLOWS
from wtal.extractors.image_encoders import ENCODERS
from wtal.extractors.readers import READERS
from wtal.models.heads import HEADS
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.pipeline.comparison.ablation import Ablation
from wtal.pipeline.detect import detect
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.extraction.reasons import failure_kinds
from wtal.pipeline.inspection.inventory import inventory
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace
from wtal.report.exports import EXPORTS
from wtal.report.imports import IMPORTS

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/README.md"
PAGES = {path.name: path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "README.md"}
PAGES |= {path.name: path for path in sorted(ROOT.glob("*.md"))} | {INDEX: ROOT / INDEX}
REGISTRIES = (
    BACKBONES,
    CHALLENGES,
    DATASETS,
    ENCODERS,
    EXPORTS,
    FLOWS,
    HEADS,
    IMPORTS,
    LAYOUTS,
    READERS,
    RESCORERS,
    STUDENTS,
)

every_page = pytest.mark.parametrize("page", PAGES)


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, *info: str) -> list[str]:
    """Fenced blocks of a page whose opening line is one of `info`."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [code for opening, code in found if opening in info]


def command_lines() -> list[tuple[str, str]]:
    """Pairs (page, line) of all commands in shell blocks."""
    lines = []
    for page in PAGES:
        code = "".join(blocks(page, "sh", "bash", "shell", "console")).replace("\\\n", " ")
        lines += [(page, line.strip()) for line in code.splitlines() if line.strip()]
    return lines


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_commands_is_what_the_commands_say():
    commands = {name: main.get_command(click.Context(main), name) for name in COMMANDS}
    assert {name: command.short_help for name, command in commands.items()} == COMMANDS
    assert {name: command.name for name, command in commands.items()} == {name: name for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name):
    command = main.get_command(click.Context(main), name)
    context = click.Context(command, info_name=name)
    silent = [p.opts[0] for p in command.get_params(context) if isinstance(p, click.Option) and not p.help]
    assert silent == []
    assert command.help
    assert "Usage:" in command.get_help(context)
    assert {"--json", "--debug", "--help"} <= {word for p in command.get_params(context) for word in p.opts}


def test_there_are_commands_in_the_pages():
    assert sum(line.startswith("wtal ") for _, line in command_lines()) > 20
    shown = {shlex.split(line)[1] for _, line in command_lines() if line.startswith("wtal ")}
    assert shown >= set(COMMANDS) - {"demo"}


def test_the_readme_is_short_and_runs_the_demo_and_the_tests():
    assert len(text_of("README.md").splitlines()) < 100
    shown = [line for page, line in command_lines() if page == "README.md"]
    assert shown[:2] == ["make demo", "make test"]


def test_the_index_lists_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)(?:#[\w-]+)?\)", text_of(INDEX)))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_in_the_pages_parses(page, line, monkeypatch):
    monkeypatch.setenv("WTAL_WORKSPACE", "workspace")  # restored afterwards, because parsing --workspace sets it
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    elif program == "pip":
        assert set(re.findall(r"\w+", "".join(re.findall(r"\[(.*?)\]", line)))) <= extras()
    else:
        assert program == "wtal"
        parse_command(words)


def parse_command(words: list[str]) -> None:
    name, *rest = words
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"there is no command {name}"
    if rest[-2:] == ["--set", "help"]:
        known = [word for word in words if not word.startswith("workspace/runs/")]  # which is not there
        assert CliRunner().invoke(main, known).exit_code == 0
        return
    parsed = command.make_context(name, list(rest)).params
    Recipe.parse(override({}, parsed.get("assignments") or ()))
    recipe = parsed.get("recipe") or "collection"
    assert recipe.endswith(".toml") or recipe in inventory("recipes")


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def anchor(heading: str) -> str:
    """Anchor of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        file = PAGES[page].parent / path if path else PAGES[page]
        assert file.exists(), f"{page} links to {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, f"{page} links to {target}"


@every_page
def test_pages_are_plain(page):
    words = text_of(page)
    assert words.startswith("# ")
    for word in ("/home/", "/Users/", "TODO", "FIXME", "../shared"):
        assert word not in words, word


def test_the_pictures_are_small_and_shown():
    shown = "".join(map(text_of, PAGES))
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 200 * 1024
        assert f"images/{path.name})" in shown


@pytest.mark.parametrize("page", ["recipes.md", "backbones.md", "exports.md", "failures.md"])
def test_the_tables_are_up_to_date(page):
    assert load_script("make_reference").page(page) == text_of(page), "run: python docs/make_reference.py"


def test_the_tables_of_the_recipes_have_the_keys():
    made = load_script("make_reference").page("recipes.md")
    for name in ("top_k_ratio", "nms_tiou", "sample_length", "select_subset", "fps"):
        assert f"| `{name}` |" in made


class Silent(Config):
    """Class whose second key has no text."""

    width: int = 3
    """Channels."""
    depth: int = 4


def test_a_key_without_meaning_is_refused():
    with pytest.raises(KeyError, match="depth"):
        load_script("make_reference").table(Silent)


@every_page
def test_toml_in_the_pages_is_taken(page):
    for code in blocks(page, "toml"):
        values = tomllib.loads(code)
        if "project" in values:
            groups = values["project"]["entry-points"]
            assert set(groups) <= {f"wtal.{registry.kind}s" for registry in REGISTRIES}
        elif "rows" in values:
            Ablation.parse(values, page)
        else:
            Recipe.parse(values, page)


def test_the_entry_points_that_are_named_exist():
    named = set(re.findall(r"`(wtal\.\w+s)`", text_of("CONTRIBUTING.md")))
    assert named == {f"wtal.{registry.kind}s" for registry in REGISTRIES}


@dataclass(frozen=True)
class Installed:
    name: str
    site: Path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install the example of a page as a separate package: its module, and the entry point in the page."""
    modules = set(sys.modules)

    def from_page(page: str) -> str:
        (code,) = blocks(page, "python")
        (groups,) = [v["project"]["entry-points"] for v in map(tomllib.loads, blocks(page, "toml")) if "project" in v]
        ((group, points),) = groups.items()
        ((name, module),) = points.items()
        about = tmp_path / "site" / f"example_{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about.parent / f"{module}.py").write_text(code)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: example-{name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(str(about.parent))
        return name

    yield from_page
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_the_example_of_a_head_passes_the_contract(install, tmp_path):
    name = install("adding-a-head.md")
    assert name in HEADS.names()
    assert inventory("heads")[name].startswith("Plain multiple-instance learning")
    contract.test_shapes_and_ranges(name)
    contract.test_every_parameter_gets_a_finite_gradient(name, authors=False)
    contract.test_padding_never_changes_the_rest(name)
    contract.test_a_batch_is_its_videos(name)
    contract.test_equal_seeds_make_equal_heads_and_steps(name)
    contract.test_state_round_trip(name)
    contract.test_one_snippet_and_extreme_labels(name, "none")
    contract.test_one_snippet_and_extreme_labels(name, "all")
    contract.test_unknown_settings_and_foreign_checkpoints_are_refused(name)
    contract.test_planted_actions_are_found(name, 0, tmp_path)


def test_the_example_of_a_backbone_extracts(install, tmp_path):
    name = install("adding-a-backbone.md")
    assert name in inventory("backbones")
    video = write_video(tmp_path / "clip.mp4", constant(25, 40))
    made = extract([video], ExtractConfig(backbone=name), Workspace(tmp_path / "workspace"))
    assert made.failures == {}
    store = FeatureStore.open(made.store)
    assert store.dims == {"rgb": 32}
    assert store["clip"].streams["rgb"].shape == (3, 32)
    assert np.ptp(store["clip"].streams["rgb"], axis=0).max() > 0

    net = create_backbone(name, "rgb")
    frames = np.random.default_rng(0).integers(0, 256, (3, net.span, 48, 64, 3), dtype=np.uint8)
    together = net.extract(frames)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.concatenate([net.extract(frames[i : i + 1]) for i in range(3)]))
    assert net.feature_map(net.preprocess(frames)).shape[:2] == (3, 16)


@every_page
def test_examples_keep_to_the_line_length(page):
    lines = "".join(blocks(page, "python", "toml", "sh")).splitlines()
    assert [line for line in lines if len(line) > 120] == []


@every_page
def test_other_python_in_the_pages_imports_what_exists(page):
    for code in blocks(page, "python"):
        imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page, "exec"), {})


@pytest.mark.parametrize("name", ["activitynet", "hacs", "thumos", "csv"])
def test_the_annotation_examples_are_read(name, tmp_path):
    (code,) = blocks("formats.md", f"json {name}", f"text {name}")
    path = tmp_path / f"example.{'csv' if name == 'csv' else 'json'}"
    path.write_text(code)
    assert guess_format(path) == name
    dataset = read_annotations(path)
    assert dataset.classes
    assert any(video.annotations for video in dataset.videos.values())


def test_every_annotation_format_has_its_heading():
    headings = re.findall(r"^### (\w+)$", text_of("formats.md"), re.MULTILINE)
    assert set(DATASETS.names()) <= set(headings)


def test_layouts_that_are_explained_exist_and_every_key_of_the_note_is_explained(tmp_path):
    page = text_of("formats.md")
    (section,) = re.findall(r"^## Features of other programs$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert len(named) > 3
    assert set(named) <= set(LAYOUTS.names())
    Note("x", "y", {}, {"rgb": (1, "float32")}, {"a": ("a", SnippetGrid(Fraction(25), 16, Fraction(16), 16))}).write(
        tmp_path
    )
    content = json.loads((tmp_path / "wtal.json").read_text())
    keys = [*content, *content["streams"][0], *content["videos"]["a"]]
    assert [key for key in keys if f"`{key}`" not in page and key != "name"] == []


def test_the_detection_examples_are_read(tmp_path):
    detections, submission = blocks("formats.md", "json")
    (tmp_path / "detections.json").write_text(detections)
    assert [len(found) for found in read_detections(tmp_path / "detections.json").values()] == [1]
    report = check_submission(json.loads(submission), "hacs")
    assert report.ok, report.errors
    (table,) = [code for code in blocks("formats.md", "text") if code.startswith("video,label,start,end,score")]
    (tmp_path / "detections.csv").write_text(table)
    assert read_detections(tmp_path / "detections.csv") == read_detections(tmp_path / "detections.json")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Run of a few steps on planted features, with its detections."""
    root = Workspace(tmp_path_factory.mktemp("workspace"))
    writer = StoreWriter.open(root.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for video in planted_videos(6, seed=0):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        labels = [{"label": CLASSES[i]} for i in np.flatnonzero(video.labels)]
        database[video.id] = {"subset": "training", "annotations": labels}
    store = writer.publish()
    annotations = write_json(root.annotations / "planted.json", {"database": database})
    settings = {"head": {"name": "basnet", "width": 8, "filter_width": 8}, "train": {"steps": 4, "log_every": 2}}
    (run,) = train(TrainInputs(store.path, annotations), Recipe.parse(settings), (0,), root)
    detect(run)
    return run.folder


def test_every_key_of_the_files_is_explained(run_folder):
    page = text_of("formats.md")
    index = json.loads((run_folder / "../../../features/planted-12x12@25-000000/index.json").read_text())
    entry = next(iter(index["videos"].values()))
    line = json.loads((run_folder / "log.jsonl").read_text().splitlines()[0])
    (checkpoint,) = run_folder.glob("checkpoint-*.pt")
    groups = {
        "index.json": index,
        "an entry": entry,
        "a grid": entry["grid"],
        "a stream": index["streams"]["rgb"],
        "run.json": json.loads((run_folder / "run.json").read_text()),
        "finished.json": json.loads((run_folder / "finished.json").read_text()),
        "log.jsonl": [key for key in line if not key.startswith("loss_")],
        "a checkpoint": torch.load(checkpoint, weights_only=True),
        "an activation": json.loads((run_folder / "activations/index.json").read_text())["streams"],
    }
    for file, keys in groups.items():
        assert [key for key in keys if f"`{key}`" not in page] == [], file
    detections = json.loads((run_folder / "detections/detections.json").read_text())
    example = json.loads(blocks("formats.md", "json")[0])
    assert set(detections) == set(example)
    assert set(detections["wtal"]) == set(example["wtal"])


def test_every_key_of_an_extracted_video_is_explained():
    summary = next(
        node
        for node in ast.walk(ast.parse((ROOT / "wtal/extractors/decoding/reader.py").read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "to_json"
    )
    keys = [key.value for node in ast.walk(summary) if isinstance(node, ast.Dict) for key in node.keys]
    assert len(keys) > 5
    assert [key for key in keys if f"`{key}`" not in text_of("formats.md")] == []


def features_that_are_not_finite(monkeypatch):
    net = type(create_backbone("motion", "rgb"))
    monkeypatch.setattr(net, "extract", lambda self, clips, crops=1: np.full((len(clips), self.dim), np.nan))


def a_grid_of_more_snippets(monkeypatch):
    def longer(fps, frames, *others):
        return SnippetGrid(fps, frames + 100, *others)

    monkeypatch.setattr("wtal.extractors.execution.extractor.SnippetGrid", longer)


@pytest.mark.parametrize("damage", [features_that_are_not_finite, a_grid_of_more_snippets])
def test_wrong_features_are_explained_word_for_word(damage, tmp_path, monkeypatch):
    video = write_video(tmp_path / "v.mp4", constant(25, 40))
    damage(monkeypatch)
    config = ExtractConfig(backbone="motion", streams=("rgb",))
    reason = extract([video], config, Workspace(tmp_path / "workspace")).failures["v"]
    (kind,) = failure_kinds({"v": reason}, exact=False)
    assert kind != reason
    assert f"| `{kind}` |" in text_of("failures.md")
