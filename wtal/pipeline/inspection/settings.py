"""Settings accepted by `--set`: keys, current values, and descriptions from the configuration classes."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from wtal.config import Config, meanings
from wtal.models.heads import HEADS
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import SecondStage
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.pipeline.exchange.packed_model import is_packed, read_model
from wtal.pipeline.recipe import DEFAULT_RECIPE, Recipe, load_recipe
from wtal.pipeline.refinement.refine import refinement_of
from wtal.pipeline.runs import open_runs

_TOP = ("title", "source", "reported")
"""Keys that describe the origin of a recipe, and cannot be set in a call."""


@dataclass(frozen=True)
class Setting:
    """A key as written for `--set`, its value, its choices if there are few, and its meaning.

    `owner` is the class that declares the key. For several recipes, `value` is that of most of them, and `exceptions`
    are the other values with their recipes; `recipes` are those that have the key, if not all do.
    """

    key: str
    value: str
    choices: tuple[str, ...]
    meaning: str
    owner: type[Config]
    exceptions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    recipes: tuple[str, ...] = ()


def recipe_settings(*recipes: str) -> list[Setting]:
    """Return the settings of recipes, in their order; heads, students and rescorers one after another.

    Raises:
        ConfigError: when there is no such recipe, or it is refused.
    """
    names = tuple(dict.fromkeys(filter(None, recipes))) or (DEFAULT_RECIPE,)
    by_key: dict[tuple[type[Config], str], dict[str, Setting]] = {}
    for name in names:
        for setting in _of_recipe(load_recipe(name)):
            by_key.setdefault((setting.owner, setting.key), {})[name] = setting
    sections = list(Recipe.model_fields)
    merged = [_merged(own, len(names)) for own in by_key.values()]
    return sorted(merged, key=lambda setting: sections.index(setting.key.partition(".")[0]))


def _merged(own: Mapping[str, Setting], count: int) -> Setting:
    """Merge the settings of one key (recipe -> setting), out of `count` recipes."""
    values: dict[str, tuple[str, ...]] = {}
    for name, setting in own.items():
        values[setting.value] = (*values.get(setting.value, ()), name)
    usual = max(values, key=lambda value: len(values[value]))
    return replace(
        next(iter(own.values())),
        value=usual,
        exceptions=tuple((value, recipes) for value, recipes in values.items() if value != usual),
        recipes=tuple(own) if len(own) < count else (),
    )


def localize_settings(source: Path | None = None) -> list[Setting]:
    """Return the settings of the localization of a run or a packed model; for a file of another kind, the defaults.

    Raises:
        UsageError: when there is no such run.
        WtalError: when the packed model is damaged.
    """
    config = LocalizeConfig()
    if source is not None and is_packed(source):
        config = read_model(source).recipe.localize
    elif source is not None and not source.is_file():
        config = open_runs(source)[0].localize()
    return list(_of("localize", config))


def refine_settings(run: Path | None = None) -> list[Setting]:
    """Return the settings of the second stage of a run, or the defaults.

    Raises:
        UsageError: when there is no such run.
    """
    return list(_of_stage(Recipe().refinement if run is None else refinement_of(open_runs(run)[0])))


def _of_recipe(recipe: Recipe) -> Iterator[Setting]:
    for name in Recipe.model_fields:
        section = getattr(recipe, name)
        if name == "head":
            heads = {member.head_name: member for member in recipe.members() or [recipe]}
            for member in heads.values():
                yield from _leaf("head", member.head_name, HEADS.load(member.head_name).Config, member.head_settings)
        elif name == "refine":
            yield from _of_stage(recipe.refinement)
        elif name not in _TOP:
            yield from _of(name, section)


def _of_stage(stage: SecondStage) -> Iterator[Setting]:
    for name in type(stage).model_fields:
        value = getattr(stage, name)
        if name == "student":
            own = {key: setting for key, setting in value.items() if key != "name"}
            yield from _leaf("refine.student", value["name"], STUDENTS.load(value["name"]).Config, own)
        elif name == "rescorer":
            own = {key: setting for key, setting in value.items() if key != "name"}
            yield from _leaf("refine.rescorer", value["name"], RESCORERS.load(value["name"]).Config, own)
        elif isinstance(value, Config):
            yield from _of(f"refine.{name}", value)
        else:
            yield from _of("refine", stage, [name])


def _leaf(section: str, name: str, config: type[Config], settings: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield the name of a leaf and its own settings."""
    kind = section.rpartition(".")[2]
    text = f"A {kind} of `wtal list {kind}s`; the keys below are those of {name}."
    yield Setting(f"{section}.name", name, (), text, config)
    yield from _of(section, config.parse(dict(settings), section))


def _of(section: str, config: Config, names: Iterable[str] = ()) -> Iterator[Setting]:
    texts = meanings(type(config))
    for name in names or type(config).model_fields:
        annotation = type(config).model_fields[name].annotation
        choices = tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()
        value = _written(getattr(config, name))
        yield Setting(f"{section}.{name}", value, choices, texts.get(name, ""), type(config))


def _written(value: Any) -> str:
    """Format a value for the right side of `--set KEY=VALUE`."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_written(part)}' for key, part in value.items())}}}"
    return json.dumps(value)
