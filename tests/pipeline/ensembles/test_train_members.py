"""Recipes of ensembles: refusals before any training, and the videos of an ensemble."""

from fractions import Fraction

import pytest

from tests.support.planted import planted_videos
from wtal.data.detections import read_detections
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter
from wtal.errors import ConfigError, UsageError
from wtal.pipeline.ensembles import train_members
from wtal.pipeline.ensembles.train_members import resolve_recipe, train_recipe
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.workspace import Workspace

MEMBERS = (
    {"head": {"name": "basnet", "width": 16, "filter_width": 8}},
    {"head": {"name": "bm", "embedding": 16, "attention_width": 8}},
)
RECIPE = {
    "train": {"steps": 5, "batch_size": 4, "sampling": "full"},
    "localize": {"signal": "product", "activation": "softmax", "class_threshold": 0.0},
}


@pytest.fixture
def planted(tmp_path):
    workspace = Workspace(tmp_path)
    writer = StoreWriter.open(workspace.features / "planted-12x12@25-000000", {"backbone": "planted"})
    database = {}
    for number, video in enumerate(planted_videos(10, seed=0)):
        grid = SnippetGrid(Fraction(25), 12 * len(video.streams["rgb"]), Fraction(12), 12)
        writer.write(video.id, grid, video.streams, {"reader": "none"})
        shown = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
        database[video.id] = {"subset": "training" if number < 6 else "validation", "annotations": shown}
    store = writer.publish().path
    return workspace, TrainInputs(store, write_json(workspace.annotations / "planted.json", {"database": database}))


@pytest.mark.parametrize("by", ["activations", "detections"])
def test_an_ensemble_has_all_videos_that_are_asked_for(planted, by):
    """Request some of the store's videos first, then all: none is missing, and the members train once."""
    workspace, inputs = planted
    recipe = Recipe.parse({**RECIPE, "ensemble": {"members": MEMBERS, "by": by}})
    labelled = frozenset(f"video-{number:02d}" for number in range(6))
    for only in (labelled | {"video-07"}, labelled | {"video-07", "video-08"}, labelled | {"video-07"}):
        (run,) = train_recipe(TrainInputs(inputs.store, inputs.annotations, only), recipe, (0,), workspace)
        assert set(read_detections(run.detections_file())) == only
    assert len(list(workspace.runs.glob("*/seed-0"))) == 2


def test_an_ensemble_counts_the_labels_that_trained(planted):
    workspace, inputs = planted
    (run,) = train_recipe(inputs, Recipe.parse({**RECIPE, "ensemble": {"members": MEMBERS}}), (0,), workspace)
    assert run.label_counts == run.members()[0].label_counts
    assert sum(count["positive"] for count in run.label_counts.values()) >= 6


@pytest.mark.parametrize(
    ("ensemble", "localize", "words"),
    [
        ({"members": MEMBERS[:1]}, {}, "at least two members"),
        ({"members": MEMBERS}, {"class_from": "cas"}, "no logits to choose classes by"),
    ],
)
def test_what_cannot_be_put_together_is_refused_before_it_trains(planted, monkeypatch, ensemble, localize, words):
    workspace, inputs = planted
    monkeypatch.setattr(train_members, "train", None)
    recipe = Recipe.parse({**RECIPE, "localize": {**RECIPE["localize"], **localize}, "ensemble": ensemble})
    with pytest.raises(UsageError, match=words):
        train_recipe(inputs, recipe, (0,), workspace)
    with pytest.raises(UsageError, match=words):
        resolve_recipe(recipe)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ensemble.members]\nhead = {name = 'bm'}", "members"),
        ("[ensemble]\nmembers = ['basnet']", "members"),
        ("[ensemble]\nmembers = 3", "members"),
        ("ensemble = 3", "ensemble"),
        (
            "[[ensemble.members]]\nextract = {backbone = 'motion'}",
            r"unknown key .ensemble\.members\[0\]\.extract.; choices: head, localize, train",
        ),
        ("[[ensemble.members]]\nensemble = {seeds = 2}", r"unknown key .ensemble\.members\[0\]\.ensemble."),
        ("[ensemble]\nseeds = 2", "there are none"),
        ("[ensemble]\nseeds = 0\n[[ensemble.members]]", "seeds"),
    ],
)
def test_malformed_members_are_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigError, match=words) as refused:
        load_recipe(str(tmp_path / "own.toml"))
    assert "\n" not in str(refused.value)


def test_more_seeds_upon_the_default(tmp_path):
    (tmp_path / "own.toml").write_text('base = "collection"\n[ensemble]\nseeds = 2\n')
    recipe = load_recipe(str(tmp_path / "own.toml"))
    assert (len(recipe.members()), recipe.ensemble.seeds) == (3, 2)
    assert load_recipe("collection", ["head={name='bm'}"]).heads == "bm"
    with pytest.raises(ConfigError, match="there are none"):
        load_recipe("collection", ["head.name=bm", "ensemble.seeds=2"])
