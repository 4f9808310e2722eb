"""Refused values: one line of our own words, for every kind of error, from `--set`, from recipes and from files."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal

import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field, ValidationError

import wtal
from wtal.cli import main
from wtal.config import Config, Record
from wtal.data.parsing.json_keys import checked
from wtal.data.store.index import Index
from wtal.errors import ConfigError, StoreError
from wtal.pipeline.recipe import load_recipe
from wtal.refusals import sentence_on, shortened, written

FOREIGN = re.compile(
    r"[Ii]nput should|[Ff]ield required|[Ee]xtra inputs|[Vv]alue error|[Aa]ssertion failed|should be|"
    r"\bvalid\b|\binvalid\b|unable to parse|instance of|dictionary|pydantic|Undefined|NoneType|<class|typing\.|"
    r"type=|input_value"
)
"""Words of pydantic and of Python's types, which belong in no message."""

CASES = {
    "train.steps='x'": "train.steps: wanted a whole number of at least 1, got 'x'; the default is 1500",
    "train.steps=0": "train.steps: wanted a whole number of at least 1, got 0; the default is 1500",
    "train.steps=1.5": "train.steps: wanted a whole number of at least 1, got 1.5; the default is 1500",
    "train.steps=[1]": "train.steps: wanted a whole number of at least 1, got [1]; the default is 1500",
    "train.steps={x=1}": "train.steps: wanted a whole number of at least 1, got {x = 1}; the default is 1500",
    "train.steps=true": "train.steps: wanted a whole number of at least 1, got true; the default is 1500",
    "train.learning_rate=false": "train.learning_rate: wanted a number above 0, got false; the default is 0.0001",
    "train.betas=[0.9, true]": "train.betas[1]: wanted a number of at least 0 and below 1, got true",
    "extract.crops=true": "extract.crops: wanted 1 or 10, got true; the default is 1",
    "refine.train.steps=true": "refine.train.steps: wanted a whole number of at least 1, got true; the default is 600",
    "head.n_mu=true": "head rskp: head.n_mu: wanted a whole number of at least 1, got true; the default is 8",
    "train.steps=9999999999": "train.steps: wanted a number between -2147483647 and 2147483647, got 9999999999",
    "train.batch_size=70000": "train.batch_size: wanted a whole number from 1 to 65536, got 70000; the default is 16",
    "train.learning_rate='fast'": "train.learning_rate: wanted a number above 0, got 'fast'; the default is 0.0001",
    "train.learning_rate=0": "train.learning_rate: wanted a number above 0, got 0; the default is 0.0001",
    "train.learning_rate=inf": "train.learning_rate: wanted a finite number above 0, got inf; the default is 0.0001",
    "train.learning_rate=1e40": "train.learning_rate: wanted a number between -1e+30 and 1e+30, got 1e+40",
    "train.average_decay=2": "train.average_decay: wanted a number above 0 and at most 1, got 2; the default is 1.0",
    "localize.nms_tiou=7": "localize.nms_tiou: wanted a number from 0 to 1, got 7; the default is 0.7",
    "localize.video_weight=true,": "localize.video_weight: wanted a number, got 'true,'; the default is 0.2",
    "train.negatives='maybe'": "train.negatives: wanted true or false, got 'maybe'; the default is true",
    "train.negatives=[]": "train.negatives: wanted true or false, got []; the default is true",
    "title=true": "title: wanted a string, got true",
    "evaluate.tiou=[0.5]": "evaluate.tiou: wanted a string, got [0.5]; the default is '0.1:0.9:0.1'",
    "extract.fps=0": "extract.fps: wanted a number or fraction above 0 and at most 1000, such as 25 or 30000/1001, "
    "got '0'",
    "localize.suppression='had'": "localize.suppression: wanted hard, soft, linear, fusion or none, got 'had'; did you "
    "mean 'hard'?",
    "localize.suppression=1": "localize.suppression: wanted hard, soft, linear, fusion or none, got 1; the default is "
    "'hard'",
    "extract.crops=2": "extract.crops: wanted 1 or 10, got 2; the default is 1",
    "extract.streams='rgb'": "extract.streams: wanted a list of strings, got 'rgb'; write ['rgb']",
    "extract.streams=['rgb', true]": "extract.streams[1]: wanted a string, got true",
    "train.betas=0.9": "train.betas: wanted a list of 2 numbers, each at least 0 and below 1, got 0.9; the default is "
    "[0.9, 0.999]",
    "train.betas=[0.9]": "train.betas: wanted a list of 2 numbers, each at least 0 and below 1, got [0.9]; the default "
    "is [0.9, 0.999]",
    "train.betas=[0.1, 0.2, 0.3]": "train.betas: wanted a list of 2 numbers, each at least 0 and below 1, got "
    "[0.1, 0.2, 0.3]; the default is [0.9, 0.999]",
    "train.betas=[0.9, 2]": "train.betas[1]: wanted a number of at least 0 and below 1, got 2",
    "localize.tolerances=[]": "localize.tolerances: wanted a list of one or more numbers, got []; the default is "
    "[0.0, 0.1, 0.2, 0.3]",
    "localize.quirks=['score-on']": "localize.quirks[0]: wanted relu-range, first-position, uneven-rings, "
    "extra-snippet, zero-below, score-one, lost-first, plus-second or plus-snippet, got 'score-on'; did you mean "
    "'score-one'?",
    "localize.stream_weights=3": "localize.stream_weights: wanted a table of numbers, got 3",
    "localize.stream_weights={rgb='x'}": "localize.stream_weights.rgb: wanted a number, got 'x'",
    "localize.preset=5": "localize.preset: wanted a name or a path, got 5",
    "train=5": "train: wanted a table with keys such as steps, got 5",
    "localize=5": "localize: wanted a table with keys such as preset, got 5",
    "localize.preset.x=5": "localize.preset: wanted a name or a path, got {x = 5}",
    "train=[]": "train: wanted a table with keys such as steps, got []",
    "head=5": "head: wanted a table, got 5; the default is {name = 'basnet'}",
    "refine=5": "refine: wanted a table with keys such as student, got 5",
    "refine.rounds=9": "refine.rounds: wanted a whole number from 1 to 3, got 9; the default is 1",
    "refine.segments.merging='fusio'": "refine.segments.merging: wanted fusion, hard or none, got 'fusio'; did you "
    "mean 'fusion'?",
    "refine.roundz=1": "unknown key 'refine.roundz'; did you mean 'refine.rounds'? choices: border_share, ",
    "ensemble.members=3": "ensemble.members: wanted a list of tables, got 3",
    "ensemble.members=[3]": "ensemble.members[0]: wanted a table, got 3",
    "ensemble.members=[{tran={steps=3}}]": "unknown key 'ensemble.members[0].tran'; did you mean 'train'? choices: ",
    "trian={steps=3}": "unknown key 'trian'; did you mean 'train'? choices: ",
    "train.stepz=1": "unknown key 'train.stepz'; did you mean 'train.steps'? choices: accumulate, ",
    "train.localize={nms_tiou=1}": "unknown key 'train.localize'; choices: accumulate, ",
    "head.memory_ke='x'": "head rskp: unknown key 'head.memory_ke'; did you mean 'head.memory'? choices: ",
    "head.authors=1": "head.authors: wanted true or false, got 1",
    "head.n_mu=0": "head rskp: head.n_mu: wanted a whole number of at least 1, got 0; the default is 8",
}
"""`section.key=value` in TOML -> what its error says after the place."""


def wtal_command(*args):
    return CliRunner().invoke(main, list(args), prog_name="wtal")


@pytest.mark.parametrize("assignment", CASES)
def test_set_says_what_was_wanted_and_what_came(assignment):
    key, _, value = assignment.partition("=")
    refused = wtal_command("train", "thumos14/rskp", "--dry-run", "--set", f"{key}={value}")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"wtal: --set {assignment}: {CASES[assignment]}")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("assignment", [each for each in CASES if "true," not in each])
def test_a_recipe_says_what_was_wanted_and_what_came(assignment, tmp_path):
    file = tmp_path / "own.toml"
    sections, _, value = assignment.partition("=")
    *section, key = sections.split(".")
    header = f"[{'.'.join(section)}]\n" if section else ""
    file.write_text(f'base = "thumos14/rskp"\n{header}{key} = {value}\n')
    refused = wtal_command("train", str(file), "--dry-run")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"wtal: recipe {file}: {CASES[assignment]}")
    assert len(refused.stderr.splitlines()) == 1


class _Row(Record):
    name: str
    share: float = Field(0.5, gt=0, le=1)
    ends: Annotated[tuple[int, str], Field(strict=False)] = (0, "s")


class _Content(Record):
    format: Literal[1]
    rows: dict[str, _Row]
    kinds: list[Literal["a", "b"]] = Field(default_factory=list, min_length=1)
    seed: int | None = None
    note: dict[str, str] = Field(default_factory=dict)


WHOLE = {"format": 1, "rows": {"v": {"name": "n"}}, "kinds": ["a"]}
DAMAGE = [
    ([], "wanted an object with keys such as format, got []"),
    (WHOLE | {"format": 2}, "format: wanted 1, got 2"),
    (WHOLE | {"format": "1"}, "format: wanted 1, got '1'"),
    ({"format": 1, "kinds": ["a"]}, "rows is missing; wanted an object of tables"),
    (WHOLE | {"rows": []}, "rows: wanted an object of tables, got []"),
    (WHOLE | {"rows": {"v": {}}}, "rows.v.name is missing; wanted a string"),
    (WHOLE | {"rows": {"v": {"nam": "x"}}}, "unknown key 'rows.v.nam'; did you mean 'rows.v.name'? choices: "),
    (WHOLE | {"rows": {"v": {"name": 5}}}, "rows.v.name: wanted a string, got 5"),
    (
        WHOLE | {"rows": {"v": {"name": "n", "share": "0.5"}}},
        "rows.v.share: wanted a number above 0 and at most 1, got",
    ),
    (
        WHOLE | {"rows": {"v": {"name": "n", "share": True}}},
        "rows.v.share: wanted a number above 0 and at most 1, got t",
    ),
    (WHOLE | {"rows": {"v": {"name": "n", "ends": [1]}}}, "rows.v.ends: wanted a list of 2 values, got [1]"),
    (WHOLE | {"rows": {"v": {"name": "n", "ends": ["x", "s"]}}}, "rows.v.ends[0]: wanted a whole number, got 'x'"),
    (WHOLE | {"kinds": []}, "kinds: wanted a list of one or more values out of a, b, got []"),
    (WHOLE | {"kinds": ["c"]}, "kinds[0]: wanted a or b, got 'c'"),
    (WHOLE | {"seed": "x"}, "seed: wanted a whole number or null, got 'x'"),
    (WHOLE | {"note": {"x": None}}, "note.x: wanted a string, got null"),
    (WHOLE | {"note": {3: "x"}}, "note: wanted a string as a key, got 3"),
]


@pytest.mark.parametrize(("values", "reason"), DAMAGE)
def test_a_file_that_wtal_wrote_says_what_is_damaged_and_the_way_out(values, reason, tmp_path):
    with pytest.raises(StoreError) as refused:
        checked(tmp_path / "x.json", values, _Content, "write it again", StoreError)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'x.json'} is damaged ({reason}")
    assert said.endswith("); write it again")
    assert not FOREIGN.search(said)


def test_a_damaged_store_names_the_key_and_no_default():
    with pytest.raises(ConfigError, match=r"^shards\[0\]: wanted a whole number of at least 0 and below \d+, got -1$"):
        Index.parse({"identity": {}, "shards": [-1]})
    with pytest.raises(
        ConfigError, match=r"^streams: wanted a name of lower-case letters, digits and underscores as a k"
    ):
        Index.parse({"identity": {}, "streams": {"RGB": {"dim": 3, "dtype": "float32"}}})


@cache
def classes() -> list[type[BaseModel]]:
    """Every class of the package whose values pydantic checks."""
    for module in pkgutil.walk_packages(wtal.__path__, "wtal."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [kind for kind in sorted(below(BaseModel), key=str) if kind.__module__.startswith("wtal.")]


def below(kind: type) -> Iterator[type]:
    """Subclasses at any depth."""
    for each in set(kind.__subclasses__()):
        yield from {each, *below(each)}


WRONG = (
    None,
    True,
    3,
    -1,
    10**40,
    0.5,
    float("inf"),
    "word",
    "",
    "word " * 99,
    [],
    [1],
    ["x"],
    [[]],
    {},
    {"x": 1},
    b"x",
)
"""Values of every kind: each is wrong for most keys."""


def wrong_values(kind: type[BaseModel]) -> Iterator[object]:
    """Values that a class refuses: of another kind, with one key of every value, with foreign keys."""
    yield from (value for value in WRONG if not isinstance(value, dict))
    yield {}
    yield {"x y": 1}
    for name, field in kind.model_fields.items():
        yield from ({name: value} for value in WRONG)
        yield from ({name: [value] * count} for value in WRONG for count in (2, 3))
        yield from ({name: {"x": value}} for value in WRONG)
        yield {f"{name}x": 1}
        for inner in getattr(field.annotation, "model_fields", ()):
            yield from ({name: {inner: value}} for value in WRONG)
            yield from ({name: {inner: [value]}} for value in WRONG)


def refused(kind: type[BaseModel], value: object) -> Iterator[tuple[str, str, str]]:
    """Kind, foreign sentence and own sentence of each error of a value."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            by_hand = getattr(kind, "by_hand", False)
            yield each["type"], each["msg"], sentence_on(kind, each, by_hand=by_hand)
    except ConfigError as error:
        yield "own", "", str(error)


@pytest.mark.slow
def test_no_sentence_of_pydantic_reaches_a_user():
    kinds = set()
    for kind in classes():
        for value in wrong_values(kind):
            for fault, foreign, own in refused(kind, value):
                kinds.add(fault)
                assert fault in ("own", "value_error") or re.search(
                    r"(^|: )wanted .+, got |^\S+ is missing; wanted |unknown key .+; (did|choices)", own
                ), own
                quoted = own.partition(", got ")[0]
                assert not FOREIGN.search(quoted), f"{kind}: {own}"
                assert foreign not in own or fault == "own", f"{kind}: {own}"
                assert "\n" not in own
                assert len(own) < 1000
    assert kinds >= {
        "bool_parsing", "bool_type", "dict_type", "extra_forbidden", "finite_number", "float_parsing", "float_type",
        "greater_than", "greater_than_equal", "int_from_float", "int_parsing", "int_type", "less_than",
        "less_than_equal", "list_type", "literal_error", "missing", "model_type", "multiple_of", "own",
        "string_pattern_mismatch", "string_type", "too_long", "too_short", "tuple_type", "value_error",
    }  # fmt: skip


def test_every_configuration_is_among_the_classes():
    names = {f"{kind.__module__}.{kind.__name__}" for kind in classes()}
    assert {"wtal.pipeline.recipe.Recipe", "wtal.models.heads.rskp.Config", "wtal.data.verdicts.Verdicts"} <= names
    assert len(names) > 70


SAMPLES = (Annotated[int, Field(ge=2, multiple_of=2)], dict[str, list[int]], tuple[int, ...] | None, bytes, list[dict])


@pytest.mark.parametrize("hint", SAMPLES, ids=str)
def test_types_that_no_class_has_yet_are_described_in_own_words(hint):
    class Sample(Config):
        key: hint  # type: ignore[valid-type]

    with pytest.raises(ConfigError, match=r"^key: wanted (a|an) .+, got ") as said:
        Sample.parse({"key": 3})
    assert not FOREIGN.search(str(said.value))


def test_a_recipe_of_the_package_is_accepted_by_the_same_door():
    assert load_recipe("thumos14/rskp").head_name == "rskp"
    assert Config.parse({}) == Config()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        ("a'b", '"a\'b"'),
        ({"a": [1, "x", {"b": False}]}, "{a = [1, 'x', {b = false}]}"),
        ((0.5, 1), "[0.5, 1]"),
        ("x" * 200, "'" + "x" * 76 + "..."),
    ],
)
def test_values_are_written_as_in_a_recipe(value, text):
    assert written(value) == text


def test_values_of_files_are_written_as_in_json():
    assert written({"a": 1, "b": None}, by_hand=False) == "{a: 1, b: null}"


def test_values_of_many_levels_are_written_without_a_traceback():
    deep = 1
    for _ in range(100_000):
        deep = [deep]
    assert written(deep) == "[" * 77 + "..."
    assert shortened(deep) == "a list of too many levels"
