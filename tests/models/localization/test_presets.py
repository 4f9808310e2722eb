"""Localization presets: equal to the recipes, and to the authors' code on given activations."""

import json
from fractions import Fraction

import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from wtal.data.grid import SnippetGrid
from wtal.errors import ConfigError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize_many
from wtal.models.localization.presets import PRESETS, preset_names, read_preset
from wtal.models.localization.signals import Activations
from wtal.pipeline.recipe import load_recipe, recipe_names

PAPERS = ("basnet", "bm", "case", "co2net", "ddgnet", "delu", "facnet", "lgbm", "rskp", "stpn", "tscn", "um", "wtalc")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_localization(name):
    LocalizeConfig(preset=name)


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_recipe_localizes_as_its_preset(name):
    assert load_recipe(f"thumos14/{name}").localize == LocalizeConfig(preset=name)


def test_delu_has_twenty_thresholds_and_drops_single_snippets_and_ddgnet_neither():
    co2net, delu, ddgnet = (LocalizeConfig(preset=name) for name in ("co2net", "delu", "ddgnet"))
    assert ddgnet == co2net
    for config, count in ((delu, 20), (ddgnet, 10)):
        thresholds = np.arange(config.threshold_start, config.threshold_stop, config.threshold_step)
        np.testing.assert_allclose(thresholds, np.linspace(0.1, 0.9, count), atol=1e-5)
    assert (delu.min_length, ddgnet.min_length, delu.upsample) == (2, 1, 1)
    changed = {key for key, value in delu.plain().items() if value != co2net.plain()[key]}
    assert changed == {"threshold_stop", "threshold_step", "min_length"}


def test_presets_of_papers_have_no_quirks():
    made = {name: LocalizeConfig(preset=name) for name in preset_names()}
    assert set(PAPERS) < set(made)
    assert [name for name, config in made.items() if config.quirks] == [n for n in made if n.startswith("authors:")]
    assert not any(load_recipe(name).localize.quirks for name in recipe_names())


def test_what_is_said_lies_over_the_preset_and_the_name_is_not_kept():
    plain, changed = LocalizeConfig(preset="rskp"), LocalizeConfig(preset="rskp", nms_tiou=0.3)
    assert (plain.nms_tiou, changed.nms_tiou, changed.overlap) == (0.5, 0.3, "lower")
    assert LocalizeConfig(**plain.plain()) == plain
    assert "preset" not in plain.plain()


def test_a_preset_starts_the_section_of_a_recipe_anew():
    recipe = load_recipe("thumos14/um", ["localize.nms_tiou=0.33", "localize.preset=rskp"])
    assert recipe.localize == LocalizeConfig(preset="rskp", nms_tiou=0.33)


def test_a_recipes_preset_takes_the_place_of_its_bases_section(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "kth/lgbm"\n[localize]\npreset = "tscn"\nmax_classes = 3\n')
    assert load_recipe(str(path)).localize == LocalizeConfig(preset="tscn", max_classes=3)


def test_a_preset_may_be_a_file_beside_the_recipe(tmp_path):
    (tmp_path / "own.toml").write_text('[localize]\npreset = "tscn"\nnms_tiou = 0.41\n')
    (tmp_path / "recipe.toml").write_text('[localize]\npreset = "own.toml"\n')
    wanted = LocalizeConfig(preset="tscn", nms_tiou=0.41)
    assert load_recipe(str(tmp_path / "recipe.toml")).localize == wanted
    assert load_recipe("kth/um", [f"localize.preset={tmp_path / 'own.toml'}"]).localize == wanted


def test_wrong_presets_are_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"no localization preset 'rskb'; .*rskp"):
        LocalizeConfig(preset="rskb")
    with pytest.raises(ConfigError, match="a name or a path"):
        LocalizeConfig.parse({"preset": 3})
    with pytest.raises(ConfigError, match="no localization preset at"):
        LocalizeConfig(preset=str(tmp_path / "missing.toml"))
    path = tmp_path / "empty.toml"
    path.write_text("title = 'nothing'\n")
    with pytest.raises(ConfigError, match=r"no \[localize\] section"):
        LocalizeConfig(preset=str(path))
    path.write_text(f'[localize]\npreset = "{path}"\n')
    with pytest.raises(ConfigError, match="circle"):
        LocalizeConfig(preset=str(path))


def test_names_are_paths():
    assert (PRESETS / "authors" / "rskp.toml").is_file()
    assert "authors:rskp" in preset_names()
    assert read_preset("authors:rskp")["overlap"] == "lower"


def reference(name):
    folder = SHARED / "reference" / "localization"
    facts = json.loads((folder / f"{name}.json").read_text())
    labels = json.loads((folder / "rskp.json").read_text())["classes"]
    return facts, np.load(folder / f"{name}.npz"), tuple(labels)


def assert_same(found, wanted):
    """Compare rows of a label and numbers, in any order, each to 1e-6."""
    found, wanted = sorted(found), sorted(wanted)
    assert [row[0] for row in found] == [row[0] for row in wanted]
    np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in wanted], rtol=0, atol=1e-6)


@needs_shared
def test_basnets_code():
    facts, arrays, labels = reference("basnet")
    videos = []
    for cas, scores, length in zip(arrays["cas_supp"], arrays["video_scores"], arrays["lengths"], strict=True):
        # The sampled snippets stand for `length` of 16 frames.
        grid = SnippetGrid(Fraction(25), 16 * int(length), Fraction(16 * int(length), len(cas)), 16)
        videos.append((Activations(cas, None, scores), grid))
    wanted = facts["detections"]
    found = localize_many(videos, labels, LocalizeConfig(preset="authors:basnet"))
    for name, detections in zip(wanted, found, strict=True):
        assert_same(
            [(d.label, d.start, d.end, d.score) for d in detections],
            [(d["label"], *d["segment"], d["score"]) for d in wanted[name]],
        )


def test_basnets_code_drops_a_video_of_the_first_class_alone():
    cas = np.ones((10, 3), dtype=np.float32)
    cas[3:6, 0] = 5.0
    grid = SnippetGrid(Fraction(25), 160, Fraction(16), 16)
    made = (Activations(cas, None, np.array([0.9, 0.1], np.float32)), grid)
    for preset, some in (("basnet", True), ("authors:basnet", False)):
        (found,) = localize_many([made], ("dive", "jump"), LocalizeConfig(preset=preset))
        assert bool(found) == some


@needs_shared
def test_rskps_code():
    facts, arrays, labels = reference("rskp")
    borders = np.concatenate([[0], np.cumsum(arrays["lengths"])])
    videos = []
    for number, length in enumerate(arrays["lengths"]):
        rows = slice(borders[number], borders[number + 1])
        grid = SnippetGrid(Fraction(25), 16 * int(length), Fraction(16), 16)
        scores = arrays["video_scores"][number, : len(labels)]
        videos.append((Activations(arrays["cas"][rows], arrays["attention"][rows], scores), grid))
    found = localize_many(videos, labels, LocalizeConfig(preset="authors:rskp"))
    assert_same(
        [(d.label, v, d.start * 25 / 16, d.end * 25 / 16, d.score) for v, ds in enumerate(found) for d in ds],
        [(label, *row) for label, rows in facts["detections"].items() for row in rows],
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"outer_weight": float("nan")}, "outer_weight: .*finite"),
        ({"thresholds": [0.1, float("inf")]}, r"thresholds\[1\]: .*finite"),
        ({"stream_weights": {"rgb": float("inf")}}, "stream_weights.rgb: .*finite"),
        ({"threshold_step": 1e-9}, "more than 10000 thresholds"),
        ({"second_step": 1e-9}, "more than 10000 thresholds"),
    ],
)
def test_numbers_that_no_localization_can_use_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        LocalizeConfig.parse(values)
