"""Write the tables of the pages on recipes, backbones, exports and failures: `python docs/make_reference.py`.

Recipes: a key's meaning is the text below it in the source of its configuration class, its default and its limits are
those of the class. Backbones: the result of their `describe`. Exports: their `EXPORT`. Failures: the tables of
`wtal.pipeline.extraction.reasons`. Nothing in the tables is written by hand, and a test compares the committed pages
with the output of this script.
"""

import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from wtal.config import Config, meanings
from wtal.extractors.backbone import Description
from wtal.extractors.backbones import BACKBONES, TakesOthers, described, takes_any
from wtal.extractors.execution.config import ExtractConfig
from wtal.models.heads import HEADS
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import (
    RefineConfig,
    RescoreConfig,
    RescorerTrainConfig,
    SegmentsConfig,
    StudentTrainConfig,
)
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.models.training.config import TrainConfig
from wtal.pipeline.extraction.reasons import NOTES, REASONS, Reason
from wtal.pipeline.recipe import EnsembleConfig, EvaluateConfig, Recipe, ReportedConfig
from wtal.registry import Registry
from wtal.report.exports import EXPORTS

BEGIN = "<!-- tables: written by docs/make_reference.py -->"
END = "<!-- end of tables -->"

_SECTIONS: dict[str, type[Config]] = {
    "extract": ExtractConfig,
    "train": TrainConfig,
    "localize": LocalizeConfig,
    "refine": RefineConfig,
    "ensemble": EnsembleConfig,
    "evaluate": EvaluateConfig,
    "reported": ReportedConfig,
}
_LIMITS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
_WORDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "Any": "value"}


def table(config: type[Config], leave_out: tuple[str, ...] = ()) -> str:
    """Markdown table of the keys of a class: key, default, values, meaning.

    Raises:
        KeyError: when a key has no text below it.
    """
    texts = meanings(config)
    rows = [
        f"| `{name}` | {_default(field)} | {_values(field)} | {_cell(texts[name])} |"
        for name, field in config.model_fields.items()
        if name not in leave_out
    ]
    return "\n".join(["| key | default | values | meaning |", "|---|---|---|---|", *rows])


def reference() -> str:
    """All tables with their headings, in the order of the sections in `Recipe`."""
    parts = ["### Top of the file", table(Recipe, (*_SECTIONS, "head"))]
    for name in Recipe.model_fields:
        if name == "head":
            parts += list(_leaves("head", HEADS, 4))
        elif name == "refine":
            parts += list(_refine())
        elif name in _SECTIONS:
            parts += [f"### `[{name}]`", *_about(_SECTIONS[name]), table(_SECTIONS[name])]
    return "\n\n".join(parts)


def backbones() -> str:
    """Table of the backbones' input, with one row for all variants and streams of the same input."""
    rows = []
    for name in BACKBONES.names():
        module = BACKBONES.load(name)
        if not module.__name__.startswith("wtal."):
            continue
        alike: dict[Description, list[str]] = {}
        for which, about in described(name).items():
            alike.setdefault(about, []).append(f"`{which}`")
        for about, which in alike.items():
            frames, pictures, values = about.frames_in_words, about.sides_in_words, about.values_in_words
            feature = "; ".join(filter(None, (about.tap, about.note)))
            rows.append([f"`{name}`", ", ".join(which), str(about.dim), frames, f"{pictures}; {values}", feature])
        if takes_any(name):
            others = module.OTHERS if isinstance(module, TakesOthers) else f"any: `{name}:NAME`"
            rows.append([f"`{name}`", others, "the model's", "", "", ""])
    head = ["name", "variants, the default first, or streams", "dimension", "frames", "pictures", "the feature"]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (head, ["---"] * len(head), *rows))


def exports() -> str:
    """Markdown table of the formats of `wtal export`."""
    rows = []
    for name in EXPORTS.names():
        module = EXPORTS.load(name)
        if module.__name__.startswith("wtal."):  # without leaves of other installed packages
            about = module.EXPORT
            needs = ", ".join(about.needs)
            rows.append(f"| `{name}` | {about.readers} | {about.per} | {needs} | {_cell(about.lacks)} |")
    return "\n".join(
        ["| name | for | one file per | needs the video's | cannot hold |", "|---|---|---|---|---|", *rows]
    )


def failures() -> list[str]:
    """Reasons of failures, one table per heading of `REASONS`, and the notes."""
    tables = [(("reason", "what to do"), reasons) for reasons in REASONS.values()]
    return [_reasons(head, reasons) for head, reasons in [*tables, (("note", "meaning"), NOTES)]]


def _reasons(head: tuple[str, str], reasons: Iterable[Reason]) -> str:
    rows = [head, ("---", "---"), *((f"`{reason.text}`", _cell(reason.advice)) for reason in reasons)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES: dict[str, Callable[[], list[str]]] = {
    "recipes.md": lambda: [reference()],
    "backbones.md": lambda: [backbones()],
    "exports.md": lambda: [exports()],
    "failures.md": failures,
}


def page(name: str) -> str:
    """Page of `TABLES` with new tables and the same text.

    Raises:
        ValueError: when the page has not the two marks around each table.
    """
    tables = TABLES[name]()
    before, *parts = Path(__file__).with_name(name).read_text(encoding="utf-8").split(BEGIN)
    if [part.count(END) for part in parts] != [1] * len(tables):
        raise ValueError(f"{name} needs the lines {BEGIN} and {END} {len(tables)} times")
    for table, part in zip(tables, parts, strict=True):
        before += f"{BEGIN}\n\n{table}\n\n{END}{part.partition(END)[2]}"
    return before


def _leaves(section: str, leaves: Registry[Any], depth: int) -> Iterator[str]:
    title = "#" * depth
    yield f"{title[1:]} `[{section}]`"
    kind = leaves.kind
    yield f"`name` selects the {kind}, one of `wtal list {kind}s`; the other keys belong to that {kind}."
    for name in leaves.names():
        module = leaves.load(name)
        if module.__name__.startswith("wtal."):  # without leaves of other installed packages
            yield f'{title} `name = "{name}"`'
            yield from _about(module.Config)
            yield table(module.Config)


def _refine() -> Iterator[str]:
    """Tables of both second stages: their own keys, then those of their sub-tables."""
    inside = {"segments": SegmentsConfig, "train": StudentTrainConfig}
    yield "### `[refine]`"
    yield from _about(RefineConfig)
    yield table(RefineConfig, ("student", *inside))
    for name, config in inside.items():
        yield f"#### `[refine.{name}]`"
        yield from _about(config)
        yield table(config)
    yield from _leaves("refine.student", STUDENTS, 5)
    yield "### `[refine]` with a rescorer"
    yield from _about(RescoreConfig)
    yield table(RescoreConfig, ("rescorer", "train"))
    yield "#### `[refine.train]` with a rescorer"
    yield from _about(RescorerTrainConfig)
    yield table(RescorerTrainConfig)
    yield from _leaves("refine.rescorer", RESCORERS, 5)


def _about(config: type[Config]) -> list[str]:
    return [" ".join((config.__doc__ or "").split())]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(field: FieldInfo) -> str:
    return " ".join([_kind(field.annotation), *_limits(field.metadata)])


def _limits(metadata: Iterable[Any]) -> list[str]:
    """Limits in words; those of a list's items are in a separate `FieldInfo`."""
    parts = [part for one in metadata for part in (one.metadata if isinstance(one, FieldInfo) else [one])]
    return [
        words.format(f"{getattr(limit, kind):g}")
        for limit in parts
        for kind, words in _LIMITS.items()
        if getattr(limit, kind, None) is not None
    ]


def _kind(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_kind, inside))
    if origin is dict:
        return f"table of {_kind(inside[1])}s"
    if origin is tuple:
        item, *metadata = get_args(inside[0]) if get_origin(inside[0]) is Annotated else (inside[0],)
        count = "" if Ellipsis in inside else f"{len(inside)} "
        return " ".join([f"list of {count}{_kind(item)}s", *_limits(metadata)])
    return _WORDS.get(getattr(annotation, "__name__", ""), str(annotation))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for name in TABLES:
        path, made = Path(__file__).with_name(name), page(name)
        changed = made != path.read_text(encoding="utf-8")
        path.write_text(made, encoding="utf-8")
        print(f"{path}: {'rewritten' if changed else 'was up to date'}", file=sys.stderr)
