"""Tables and figures of the papers as data: the settings behind each row, and its printed figures."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from wtal.config import Config
from wtal.data.files import read_toml
from wtal.data.regular import require_regular
from wtal.errors import ConfigError, UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.pipeline.comparison.reported import Printed
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.registry import suggest

ABLATIONS = Path(__file__).parents[2] / "ablations"


class RowConfig(Config):
    """One row of a table."""

    name: str
    """Name of the row in the table."""
    set: tuple[str, ...] = ()
    """Overrides of the recipe, `section.key=value`."""
    recipe: str = ""
    """Another recipe, in the same folder as the table's."""
    stage: int | None = Field(None, ge=0)
    """Kept training stage to use instead of the end of training."""
    reported: dict[str, float] = Field(default_factory=dict)
    """Percent at a tiou, or averaged over a range of tious."""


class Ablation(Config):
    """One table."""

    title: str
    """Title in one line."""
    source: str
    """Publication of the table, and the data it is for."""
    data: str = ""
    """Recipe of that data, such as `bases/thumos14`."""
    features: str = ""
    """Features used in the paper."""
    backbone: str = ""
    """Backbone of those features, by its name here."""
    rules: str = ""
    """Evaluation protocol used, as named by `wtal list protocols`; empty if it is none of them or unknown."""
    set: tuple[str, ...] = ()
    """Overrides applied under every row."""
    rows: tuple[RowConfig, ...] = Field(min_length=1)
    """Rows in the paper's order."""


def ablation_names() -> list[str]:
    """List the tables included in the package."""
    return sorted(path.name.removesuffix(".toml") for path in ABLATIONS.glob("*.toml"))


def load_ablation(name: str) -> Ablation:
    """Load a table by name, or by the path of a `.toml` file.

    Raises:
        UsageError: when there is no such table.
        ConfigError: when the file is refused.
    """
    path = Path(name) if name.endswith(".toml") else ABLATIONS / f"{name}.toml"
    require_regular(path)
    if not path.is_file():
        raise UsageError(f"there is no ablation {name!r}; {suggest(name, ablation_names())}")
    return Ablation.parse(read_toml(path), f"ablation {name}")


def recipe_of(table: Ablation, row: RowConfig, recipe: str, assignments: tuple[str, ...] = ()) -> Recipe:
    """Return a row's recipe: the given one or its neighbour, then the settings of the table, the row and the caller.

    Raises:
        UsageError: when the caller overrides a setting that defines the row.
        ConfigError: when the recipe or a setting is refused; the message names the row.
    """
    for key in {_key(assignment) for assignment in assignments} & {_key(own) for own in row.set}:
        raise UsageError(f"row {row.name!r} sets {key} itself; leave out --set {key}")
    try:
        return load_recipe(_beside(recipe, row.recipe), (*table.set, *row.set, *assignments))
    except ConfigError as error:
        raise ConfigError(f"row {row.name!r}: {error}") from None


def printed_in(table: Ablation, row: RowConfig) -> Printed:
    """Return the figures printed for a row, and their conditions.

    Raises:
        ConfigError: when `data` names no recipe.
        UsageError: when `rules` names no protocol.
    """
    data = load_recipe(table.data) if table.data else Recipe()
    return printed(data, row.reported, table.source, table.features, table.backbone, table.rules)


def printed(
    data: Recipe,
    figures: Mapping[str, float],
    source: str,
    features: str,
    backbone: str,
    rules: str,
    protocol: str = "",
) -> Printed:
    """Return figures printed for a recipe's data. Features of a backbone other than its own have their own rate.

    Raises:
        UsageError: when `rules` names no protocol.
    """
    extract, judged = data.extract, data.evaluate
    named = backbone or extract.backbone
    row = Printed(figures, source, features, protocol, named, judged.published_videos, judged.published_classes, rules)
    if named != extract.backbone:
        return row
    flow = extract.flow or BACKBONES.load(named).FLOW
    return replace(row, fps=extract.fps, stride=extract.stride, flow=flow)


def _key(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


def _beside(recipe: str, other: str) -> str:
    """Return the name or path of recipe `other` in the folder of `recipe`."""
    if not other:
        return recipe
    folder, slash, last = recipe.rpartition("/")
    return f"{folder}{slash}{other}{'.toml' if last.endswith('.toml') else ''}"
