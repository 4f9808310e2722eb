"""Settings of a run that differ from its recipe, or from the defaults if the recipe is not an included one."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wtal.data.files import read_toml
from wtal.errors import UsageError
from wtal.models.heads import HEADS
from wtal.models.refinement.config import second_stage
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.pipeline.recipe import RECIPES, Recipe, load_recipe, recipe_names
from wtal.registry import Registry

_WIDTH = 100
"""Maximum characters per line."""
_INDENT = 11
_PLAIN = ("extract", "train", "localize", "evaluate")
"""Sections shown unchanged; the others belong to leaves or to an ensemble."""


@dataclass(frozen=True)
class Origin:
    """The recipe behind a run: its name (empty if only the defaults are known) and its plain values."""

    name: str
    values: Mapping[str, Any]

    @property
    def nothing_else(self) -> str:
        """Text for a section without differences."""
        return "as the recipe" if self.name else "defaults"

    def heading(self) -> str:
        """Return a line on the settings below it."""
        known = f"the recipe {self.name}, whose values" if self.name else "the defaults, which"
        return f"{'settings':<{_INDENT}}those that differ from {known} are in brackets"


def origin_of(recipe: Mapping[str, Any]) -> Origin:
    """Return the included recipe behind a run's plain recipe, identified by its title and its head."""
    head = recipe["head"]["name"]
    for name in recipe_names() if recipe.get("title") else ():
        if read_toml(RECIPES / f"{name}.toml").get("title") == recipe["title"]:
            loaded = load_recipe(name)
            for member in loaded.members() or [loaded]:
                if member.head_name == head:
                    return Origin(name, member.plain())
    return Origin("", Recipe.parse({"head": {"name": head}}).plain())


def section_lines(recipe: Mapping[str, Any], origin: Origin) -> list[str]:
    """Return one or more lines per section, with its differences from the origin."""
    return [_wrapped(name, _differing(recipe[name], origin.values[name]), origin) for name in _PLAIN if name in recipe]


def head_line(recipe: Mapping[str, Any], origin: Origin) -> str:
    """Return a line on the head, with its differences from the origin."""
    return _leaf("head", HEADS, recipe["head"], origin.values["head"], origin)


def second_stage_lines(stage: Mapping[str, Any], origin: Origin) -> list[str]:
    """Return a line on the student or rescorer, with the second stage's differences from the origin."""
    kind, leaves = ("rescorer", RESCORERS) if "rescorer" in stage else ("student", STUDENTS)
    own = origin.values.get("refine") or {}
    base = second_stage(dict(own) if kind in own else {kind: {"name": stage[kind]["name"]}})
    plain = base.plain()
    parts = _differing({key: value for key, value in stage.items() if not isinstance(value, Mapping)}, plain)
    for name in ("segments", "train"):
        parts += [f"{name}.{part}" for part in _differing(stage.get(name, {}), plain.get(name, {}))]
    return [_leaf(kind, leaves, stage[kind], plain[kind], origin), _wrapped("refine", parts, origin)]


def all_lines(recipe: Mapping[str, Any], before: str = "") -> list[str]:
    """Return every setting on a line of its own: `train.steps = 500`."""
    lines = []
    for key, value in recipe.items():
        inside = isinstance(value, Mapping) and value
        lines += all_lines(value, f"{before}{key}.") if inside else [f"{before}{key} = {value}"]
    return lines


def _leaf(
    kind: str, leaves: Registry[Any], settings: Mapping[str, Any], base: Mapping[str, Any], origin: Origin
) -> str:
    """Return a line on a leaf: its name, and the settings that differ from the base or from its own defaults."""
    name = settings["name"]
    try:
        defaults = leaves.load(name).Config().plain()
    except UsageError:  # the leaf of a package that is not installed here
        defaults = {}
    expected = {**defaults, **(base if base.get("name") == name else {})}
    parts = _differing({key: value for key, value in settings.items() if key != "name"}, expected)
    return _wrapped(kind, parts, origin, f"{name}: ")


def _differing(section: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return `key: value (value of the base)` for each setting of a section that differs from the base."""
    return [
        f"{key}: {value}{f' ({_short(base[key])})' if key in base else ''}"
        for key, value in section.items()
        if key not in base or base[key] != value
    ]


def _short(value: Any) -> str:
    return "empty" if value == "" else str(value)


def _wrapped(name: str, parts: list[str], origin: Origin, before: str = "") -> str:
    text = f"{name:<{_INDENT}}{before}{', '.join(parts) or origin.nothing_else}"
    return "\n".join(textwrap.wrap(text, _WIDTH, subsequent_indent=" " * _INDENT, break_on_hyphens=False))
