"""Recipes: all are accepted, inherit from their bases, and name the source of every value."""

import pytest

from wtal.errors import ConfigError
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.recipe import RECIPES, load_recipe, recipe_names
from wtal.pipeline.train import resolve_early


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_accepted(name):
    recipe = resolve_early(load_recipe(name))
    assert recipe.title
    assert recipe.source
    if "/" in name:
        stage = recipe.refine
        own = stage.rescorer_name if isinstance(stage, RescoreConfig) else recipe.head_name
        assert own == name.rpartition("/")[2]


@pytest.mark.parametrize("name", [name for name in recipe_names() if "/" in name])
def test_a_recipe_is_judged_on_the_collection_of_its_folder(name):
    collection = name.partition("/")[0]
    assert load_recipe(name).evaluate == load_recipe(f"bases/{collection}").evaluate


@pytest.mark.parametrize("name", [name for name in recipe_names() if "/" in name])
def test_every_value_of_a_recipe_has_its_source_beside_it(name):
    section, said, bare = "", False, []
    for line in (RECIPES / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section, said = line[1 : line.index("]")], "#" in line
        elif (
            section.partition(".")[0] in ("extract", "head", "train", "localize", "refine")
            and "=" in line
            and not said
            and "#" not in line
        ):
            bare.append(line)
    assert [line for line in bare if not line.startswith(("name", "preset"))] == []


def test_recipes_stand_on_recipes(tmp_path):
    (tmp_path / "low.toml").write_text(
        'title = "low"\n[head]\nname = "basnet"\nwidth = 8\n[train]\nsteps = 5\nnoise = 0.1\n'
    )
    (tmp_path / "high.toml").write_text('base = "low.toml"\n[train]\nsteps = 6\n')
    high = load_recipe(str(tmp_path / "high.toml"))
    assert (high.title, high.head, high.train.steps, high.train.noise) == (
        "low",
        {"name": "basnet", "width": 8},
        6,
        0.1,
    )
    (tmp_path / "low.toml").write_text('base = "high.toml"\n')
    with pytest.raises(ConfigError, match="circle"):
        load_recipe(str(tmp_path / "high.toml"))
    (tmp_path / "low.toml").write_text("base = 3\n")
    with pytest.raises(ConfigError, match="base: wanted the name of a recipe, got 3"):
        load_recipe(str(tmp_path / "low.toml"))
    assert not [name for name in recipe_names() if name.startswith("bases")]
    assert (RECIPES / "bases").is_dir()


def test_settings_of_a_head_without_its_name_are_those_of_the_bases_head(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('base = "thumos14/rskp"\n[head]\nn_mu = 3\n')
    below = load_recipe("thumos14/rskp").head
    assert load_recipe(str(path)).head == {**below, "n_mu": 3}
    path.write_text('base = "thumos14/rskp"\n[head]\nname = "basnet"\nwidth = 8\n')
    assert load_recipe(str(path)).head == {"name": "basnet", "width": 8}


def test_steps_replace_the_epochs_of_a_recipe(tmp_path):
    """A given length of training counts, whatever the unit in the recipe."""
    train = load_recipe("thumos14/rskp", ["train.steps=60"]).train
    assert (train.steps, train.epochs) == (60, 0)
    train = load_recipe("thumos14/rskp", ["train.steps=60", "train.epochs=3"]).train
    assert (train.steps, train.epochs) == (60, 3)
    train = load_recipe("thumos14/rskp", ["train={steps=60}"]).train
    assert (train.steps, train.epochs) == (60, 0)
    stage = load_recipe("thumos14/pmil", ["refine.train.steps=60"]).refinement.train
    assert (stage.steps, stage.epochs) == (60, 0)
    path = tmp_path / "short.toml"
    path.write_text('base = "thumos14/rskp"\n[train]\nsteps = 60\n')
    assert (load_recipe(str(path)).train.steps, load_recipe(str(path)).train.epochs) == (60, 0)


def test_a_path_of_the_packages_own_recipes_is_theirs_unless_a_file_is_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/kth/basnet.toml") == load_recipe("kth/basnet")
    with pytest.raises(ConfigError, match=r"there is no recipe at recipes/kth/nobody\.toml"):
        load_recipe("recipes/kth/nobody.toml")
    (tmp_path / "recipes" / "kth").mkdir(parents=True)
    (tmp_path / "recipes" / "kth" / "basnet.toml").write_text('[head]\nname = "stpn"\n')
    assert load_recipe("recipes/kth/basnet.toml").head_name == "stpn"


MEMBERS = """
[train]
steps = 50
[localize]
nms_tiou = 0.4
[ensemble]
seeds = 2
[[ensemble.members]]
head = { name = "basnet", width = 8 }
[[ensemble.members]]
head = { name = "bm" }
train = { steps = 70 }
"""


@pytest.fixture
def ensemble_file(tmp_path):
    path = tmp_path / "several.toml"
    path.write_text(MEMBERS)
    return path


def test_members_are_laid_over_the_recipe(ensemble_file):
    recipe = load_recipe(str(ensemble_file))
    first, second = recipe.members()
    assert (first.head, first.train.steps) == ({"name": "basnet", "width": 8}, 50)
    assert (second.head, second.train.steps, second.localize.nms_tiou) == ({"name": "bm"}, 70, 0.4)
    assert recipe.heads == "basnet+bm"
    assert recipe.first_member() == first
    assert not first.members()


def test_overrides_reach_every_member(ensemble_file):
    recipe = load_recipe(str(ensemble_file), ["train.steps=3", "localize.nms_tiou=0.2"])
    assert {(member.train.steps, member.localize.nms_tiou) for member in recipe.members()} == {(3, 0.2)}


def test_a_head_that_is_named_is_trained_alone(ensemble_file):
    chosen = load_recipe(str(ensemble_file), ["head.name=bm", "head.embedding=4"])
    assert (chosen.head, chosen.train.steps, chosen.members()) == ({"name": "bm", "embedding": 4}, 70, [])
    assert load_recipe(str(ensemble_file), ["head.name=stpn"]).head == {"name": "stpn"}
    with pytest.raises(ConfigError, match=r"an ensemble of basnet, bm; also set head\.name"):
        load_recipe(str(ensemble_file), ["head.width=4"])


def test_a_recipe_upon_an_ensemble(ensemble_file):
    """Sections of the recipe override the members'; with a head, it is not an ensemble."""
    (ensemble_file.parent / "longer.toml").write_text('base = "several.toml"\n[train]\nsteps = 90\n')
    (ensemble_file.parent / "own.toml").write_text('base = "several.toml"\n[head]\nname = "um"\n')
    longer = load_recipe(str(ensemble_file.parent / "longer.toml"))
    assert {member.train.steps for member in longer.members()} == {90}
    assert load_recipe(str(ensemble_file.parent / "own.toml")).members() == []


def test_a_member_that_is_refused_is_named(ensemble_file):
    ensemble_file.write_text(MEMBERS.replace("steps = 70", "stebs = 70"))
    with pytest.raises(ConfigError, match=r"ensemble\.members\[1\]: unknown key 'train\.stebs'"):
        load_recipe(str(ensemble_file)).members()


def test_the_default_is_an_ensemble():
    recipe = load_recipe("collection")
    assert len(recipe.members()) > 1
    first, base = recipe.first_member(), load_recipe("bases/collection")
    train = base.train.model_copy(update={"negative_weight": 3.0})
    assert (first.head, first.train, first.extract) == (base.head, train, base.extract)
