"""`--set`: the keys of each command, as `--set help` lists them, and wrong keys named as written in the call."""

import re

import pytest
from click.testing import CliRunner

from wtal.cli import COMMANDS, main
from wtal.commands._settings import SetOption
from wtal.config import override
from wtal.models.heads import HEADS
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.inspection.settings import localize_settings, recipe_settings, refine_settings
from wtal.pipeline.recipe import Recipe, load_recipe

SECTIONS = {"train", "head", "extract", "localize", "refine", "ensemble", "evaluate"}
TAKES = {
    "run": SECTIONS,
    "train": SECTIONS,
    "compare": SECTIONS,
    "reproduce": SECTIONS,
    "detect": {"localize"},
    "tune": {"localize"},
    "ensemble": {"localize"},
    "refine": {"refine"},
}


def wtal(*args):
    return CliRunner().invoke(main, list(args), terminal_width=100)


def option_of(name):
    command = main.get_command(None, name)
    return next((param for param in command.params if isinstance(param, SetOption)), None)


def test_these_are_the_commands_that_take_settings():
    assert {name for name in COMMANDS if option_of(name)} == set(TAKES)


@pytest.mark.parametrize("command", TAKES)
@pytest.mark.parametrize("spelled", [("--set", "help"), ("--set", "?"), ("--set=help",)])
def test_the_keys_are_listed_without_what_the_call_lacks(command, spelled):
    listed = wtal(command, *spelled)
    assert listed.exit_code == 0, listed.output
    keys = re.findall(r"^([a-z][\w.]*)=", listed.stdout, re.MULTILINE)
    assert {key.partition(".")[0] for key in keys} == TAKES[command]


@pytest.mark.parametrize("command", TAKES)
def test_the_example_of_the_help_is_a_key_that_is_listed(command):
    (example,) = re.findall(r"e\.g\. ([\w.]+)=", option_of(command).help)
    assert f"\n{example}=" in f"\n{wtal(command, '--set', 'help').stdout}"


def test_every_setting_has_a_meaning():
    settings = [*recipe_settings("thumos14/rskp"), *localize_settings(), *refine_settings()]
    assert [each.key for each in settings if not each.meaning] == []
    assert len({each.key for each in settings}) > 150


def test_values_are_those_of_the_recipe_and_are_taken_as_they_are_written():
    recipe = load_recipe("thumos14/rskp")
    written = [f"{each.key}={each.value}" for each in recipe_settings("thumos14/rskp")]
    assert "train.batch_size=10" in written
    assert "localize.nms_tiou=0.5" in written
    kept = [each for each in written if not each.startswith(("refine.", "head.", "localize.preset"))]
    assert Recipe.parse(override(recipe.plain(), kept)).plain() == recipe.plain()


def rows_of(*args):
    """Key -> the text of its rows, on one line each, in the order of the list."""
    listed = wtal(*args, "--set", "help")
    assert listed.exit_code == 0, listed.output
    rows = re.split(r"\n(?=\S)", listed.stdout.strip())
    return [(row.partition("=")[0], " ".join(row.split())) for row in rows]


def test_settings_of_several_recipes_are_listed_once_with_the_exceptions():
    rows = rows_of("compare", "thumos14/rskp", "kth/basnet", "kth/facnet")
    shared = {key: text for key, text in rows if not key.startswith("head.")}
    assert len(shared) == len([key for key, _ in rows if not key.startswith("head.")])
    assert shared["extract.backbone"] == (
        "extract.backbone=motion Backbone, one of `wtal list backbones`. Here i3d in thumos14/rskp."
    )
    assert "Here" not in shared["extract.dtype"]
    heads = [text for key, text in rows if key == "head.name"]
    assert [text.split()[0] for text in heads] == ["head.name=rskp", "head.name=basnet", "head.name=facnet"]
    assert heads[1].endswith("Used in kth/basnet.")
    sections = [key.partition(".")[0] for key, _ in rows]
    assert list(dict.fromkeys(sections)) == [name for name in Recipe.model_fields if name in SECTIONS]
    assert sections == sorted(sections, key=list(Recipe.model_fields).index)


def test_settings_of_a_table_are_those_of_its_methods():
    rows = rows_of("reproduce", "thumos14", "--methods", "rskp,pmil")
    names = [text.split()[0] for key, text in rows if key.endswith(".name")]
    assert names == [
        "head.name=rskp",
        "head.name=co2net",
        "refine.student.name=actionformer",
        "refine.rescorer.name=pmil",
    ]
    everything = [text.split()[0] for key, text in rows_of("reproduce", "thumos14") if key == "head.name"]
    assert everything == [f"head.name={name}" for name in HEADS.names()]
    refused = wtal("reproduce", "thumos14", "--methods", "rkp", "--set", "help")
    assert refused.exit_code == 2
    assert "did you mean 'rskp'?" in refused.stderr


def test_a_run_that_is_not_there_is_refused_here_too():
    for command in ("detect", "refine"):
        refused = wtal(command, "nowhere", "--set", "help")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "nowhere" in refused.stderr


def test_settings_of_localization_are_those_of_its_class():
    assert [each.key for each in localize_settings()] == [f"localize.{name}" for name in LocalizeConfig.model_fields]
    (one,) = [each for each in localize_settings() if each.key == "localize.suppression"]
    assert one.choices == ("hard", "soft", "linear", "fusion", "none")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["train.stepz=5"], "--set train.stepz=5: unknown key 'train.stepz'; did you mean 'train.steps'? "),
        (["train.batch_size=2", "steps=5"], "--set steps=5: unknown key 'steps'; did you mean 'train.steps'? "),
        (
            ["train.nms_tiou=1"],
            "--set train.nms_tiou=1: unknown key 'train.nms_tiou'; did you mean 'localize.nms_tiou'",
        ),
        (["student.name=x"], "--set student.name=x: unknown key 'student'; did you mean 'refine.student'? "),
        (["rounds=2"], "--set rounds=2: unknown key 'rounds'; did you mean 'refine.rounds'? "),
        (["trian.steps=1", "train.batch_size=2"], "--set trian.steps=1: unknown key 'trian'; did you mean 'train'? "),
        (["train.steps=-4"], "--set train.steps=-4: train.steps: "),
        (["localize.suppression=had"], "--set localize.suppression=had: localize.suppression: "),
        (["train.steps"], "--set takes section.key=value, got 'train.steps'"),
        (["head.widt=3"], "--set head.widt=3: head rskp: unknown key 'head.widt'; did you mean 'head.width'? "),
    ],
)
def test_the_wrong_one_of_several_is_blamed(settings, line):
    refused = wtal("train", "thumos14/rskp", "--dry-run", *(part for each in settings for part in ("--set", each)))
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"wtal: {line}")
    assert len(refused.stderr.splitlines()) == 1


def test_a_key_of_a_head_among_several_says_what_to_do():
    refused = wtal("train", "--dry-run", "--set", "head.width=3")
    assert refused.stderr.startswith("wtal: --set head.width=3: recipe collection trains an ensemble of ")
    assert refused.stderr.endswith("; also set head.name, so that head.width applies to one head\n")


def test_a_word_of_a_few_is_refused_with_the_nearest():
    refused = wtal("train", "--dry-run", "--set", "localize.suppression=had")
    assert refused.stderr.endswith("got 'had'; did you mean 'hard'?\n")


def test_an_option_that_is_short_for_a_setting_is_blamed_by_its_own_name():
    refused = wtal("run", "videos", "--labels", "l.csv", "--dry-run", "--head", "basnet", "--set", "head.scale=1")
    assert refused.stderr.startswith("wtal: --set head.scale=1: head basnet: unknown key 'head.scale'")
    refused = wtal("run", "videos", "--labels", "l.csv", "--dry-run", "--train-subset", "", "--set", "train.steps=x")
    assert refused.stderr.startswith("wtal: --set train.steps=x: ")
    refused = wtal("run", "videos", "--labels", "l.csv", "--dry-run", "--backbone", "mtion", "--set", "train.steps=5")
    assert refused.stderr.startswith("wtal: --backbone mtion: extract.backbone: there is no backbone 'mtion'; did you")


NAMES = {
    "extract.backbone=motion-piramid": "extract.backbone: there is no backbone 'motion-piramid'; did you mean 'motion-",
    "extract.backbone=csn:r11": "extract.backbone: backbone csn has no variant 'r11'; did you mean 'r101'? ",
    "extract.streams=['rgbb']": "extract.streams: backbone i3d has no stream 'rgbb'; did you mean 'rgb'? ",
    "extract.flow=tvl2": "extract.flow: there is no flow method 'tvl2'; did you mean 'tvl1'? ",
    "extract.flow=dis:medum": "extract.flow: flow dis has no implementation 'medum'; did you mean 'medium'? ",
    "extract.reader=pyva": "extract.reader: there is no reader 'pyva'; did you mean 'pyav'? ",
    "head.name=bas": "head.name: there is no head 'bas'; did you mean 'basnet'? ",
    "head.base=facn": "head rskp: head.base: there is no head 'facn'; did you mean 'facnet'? ",
    "refine.student.name=actionfromer": "refine.student.name: there is no student 'actionfromer'; did you mean 'action",
    "refine.rescorer.name=pmli": "refine.rescorer.name: there is no rescorer 'pmli'; did you mean 'pmil'? ",
    "localize.preset=rkp": "there is no localization preset 'rkp'; did you mean 'rskp'? ",
    "reported.rules=thumos": "reported.rules: there is no protocol 'thumos'; ",
}


@pytest.mark.parametrize("assignment", NAMES)
@pytest.mark.parametrize("call", ["train thumos14/rskp --dry-run", "compare thumos14/rskp --annotations nowhere"])
def test_an_unknown_name_is_blamed_on_set_before_anything_else(call, assignment):
    refused = wtal(*call.split(), "--set", "train.steps=5", "--set", assignment)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"wtal: --set {assignment}: {NAMES[assignment]}")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[head]\nname = 'bas'\n", "head.name: there is no head 'bas'; did you mean 'basnet'? "),
        ("[extract]\nreader = 'pyva'\n", "extract.reader: there is no reader 'pyva'; did you mean 'pyav'? "),
        ("[refine.student]\nname = 'x'\n", "refine.student.name: there is no student 'x'; choices: actionformer"),
        (
            "[ensemble]\nmembers = [{head = {name = 'bm'}}, {head = {name = 'bas'}}]\n",
            "ensemble.members[1]: head.",
        ),
    ],
)
def test_an_unknown_name_in_a_recipe_is_the_fault_of_the_recipe(text, reason, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(text)
    for more in ((), ("--set", "train.steps=5")):
        refused = wtal("train", str(file), *more, "--dry-run")
        assert refused.exit_code == 1
        assert refused.stderr.startswith(f"wtal: recipe {file}: {reason}")
