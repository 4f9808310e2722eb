"""One experiment: how features are made, which head is used, how it is trained, localized and evaluated."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from wtal.config import Config, build_overridden, digest, override
from wtal.data.files import read_toml
from wtal.data.kinds import kind_of
from wtal.data.regular import require_regular
from wtal.errors import AbsentError, ConfigError, UsageError, WrongKindError
from wtal.extractors.execution.config import ExtractConfig
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import RefineConfig, SecondStage, second_stage
from wtal.models.training.config import TrainConfig
from wtal.refusals import written
from wtal.registry import nearest, suggest

_BASES = "bases"
_AUTHORS = "authors"
_ENSEMBLE = "ensemble"
_OF_A_MEMBER = ("head", "train", "localize")
"""Sections that each member of an ensemble may have of its own."""
RECIPES = Path(__file__).parents[1] / "recipes"
DEFAULT_RECIPE = "collection"
"""Default, for users' own videos."""
_DEFAULT_HEAD = "basnet"


class EvaluateConfig(Config):
    """Subsets, and the reported thresholds."""

    train_subset: str = "training"
    """Subset whose labelled videos are used for training."""
    test_subset: str = "validation"
    """The reported subset."""
    select_subset: str = ""
    """Subset whose segments may choose the step; never the reported one. Empty keeps the last step."""
    tiou: str = "0.1:0.9:0.1"
    """start:stop:step, stop included, or a comma-separated list."""
    published_videos: int = Field(0, ge=0)
    """Number of videos of the reported subset in the publication, behind its printed figures; 0 if unknown."""
    published_classes: int = Field(0, ge=0)
    """Number of classes in the publication; 0 if unknown."""


class ReportedConfig(Config):
    """A published result to compare with."""

    source: str = ""
    """Publication."""
    features: str = ""
    """Features used."""
    backbone: str = ""
    """Backbone, by its name here; empty is `extract.backbone`."""
    protocol: str = ""
    """Evaluation rules used."""
    rules: str = ""
    """The same rules as named by `wtal list protocols`; empty if they are none of those, or unknown."""
    mAP: dict[str, float] = Field(default_factory=dict)  # noqa: N815 (the name that the field writes)
    """Percent at a tiou, or averaged over a range of tious: {"0.5" = 33.4, "0.1:0.7" = 42.2}."""


class EnsembleConfig(Config):
    """Members trained in place of one head and combined into one run."""

    members: tuple[dict[str, Any], ...] = ()
    """Tables laid over the recipe's own sections, one per member; empty trains the recipe's head alone."""
    seeds: int = Field(1, ge=1)
    """Number of seeds per member."""
    by: Literal["activations", "detections"] = "activations"
    """Way of combining: means of activations, or pooled detections."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        for number, table in enumerate(self.members):
            foreign_keys = [key for key in table if key not in _OF_A_MEMBER]
            if foreign_keys:
                name = f"ensemble.members[{number}].{foreign_keys[0]}"
                raise ConfigError(f"unknown key {name!r}; {suggest(foreign_keys[0], _OF_A_MEMBER)}")
        if self.seeds > 1 and not self.members:
            raise ConfigError(
                "ensemble.seeds needs ensemble.members, and there are none; for one head use --seeds 0,1,2"
            )
        return self


class Recipe(Config):
    """One experiment. `head` holds `name`, the head's settings, and `authors`: whether it has its authors' quirks."""

    title: str = ""
    """Title in one line, printed by `wtal list recipes`."""
    source: str = ""
    """Origin of the values."""
    extract: ExtractConfig = ExtractConfig()
    head: dict[str, Any] = Field(default_factory=lambda: {"name": _DEFAULT_HEAD})
    train: TrainConfig = TrainConfig()
    localize: LocalizeConfig = LocalizeConfig()
    refine: SecondStage | None = None
    """Second stage, in which a student learns from the head's detections, or a rescorer rescores its proposals; omitted
    without a table for it."""
    ensemble: EnsembleConfig = EnsembleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    reported: ReportedConfig = ReportedConfig()

    @field_validator("refine", mode="before")
    @classmethod
    def _of_a_kind(cls, values: Any) -> Any:
        """Parse the second stage by the kind that its keys imply."""
        return values if values is None or isinstance(values, SecondStage) else second_stage(values)

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit an absent second stage, so that recipes from before it existed keep their identity."""
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if key != "refine" or value is not None}

    @property
    def head_name(self) -> str:
        """Name of the head's leaf."""
        return str(self.head.get("name", _DEFAULT_HEAD))

    @property
    def heads(self) -> str:
        """Name of the head, or of the heads of an ensemble's members, joined by a plus."""
        return "+".join(dict.fromkeys(member.head_name for member in self.members() or [self]))

    @property
    def head_settings(self) -> dict[str, Any]:
        """The head's own settings."""
        return {key: value for key, value in self.head.items() if key not in ("name", _AUTHORS)}

    @property
    def head_authors(self) -> bool:
        """True if the head is the one of its authors' code, quirks included."""
        return bool(self.head.get(_AUTHORS, False))

    @property
    def refinement(self) -> SecondStage:
        """Settings of the second stage, whether or not the recipe includes it."""
        return self.refine or RefineConfig()

    def members(self) -> "list[Recipe]":
        """Return the recipes of the ensemble's members; empty if a single head is trained.

        Raises:
            ConfigError: when a key or a value of a member is refused.
        """
        own = {key: value for key, value in self.plain().items() if key != _ENSEMBLE}
        tables = self.ensemble.members
        return [
            Recipe.parse(_laid_over(_below(own, table), table), f"ensemble.members[{i}]")
            for i, table in enumerate(tables)
        ]

    def first_member(self) -> "Recipe":
        """Return the recipe of an ensemble's first member; the recipe itself if a single head is trained."""
        return next(iter(self.members()), self)

    def training_identity(self) -> dict[str, Any]:
        """Return everything that affects what is learned: runs of equal identity may resume one another."""
        return training_identity(self.plain())


def training_identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return `Recipe.training_identity` from a recipe's plain values, such as those stored in a run.

    Values stored in a run lack keys that were added later, and so remain the run's own. `zero`, which was added later,
    counts if it is not the default.
    """
    rules = plain["evaluate"]
    judged = {key: rules[key] for key in ("train_subset", "select_subset")}
    selects = {"localize": plain["localize"]} if rules["select_subset"] else {}
    extract = {key: value for key, value in plain["extract"].items() if (key, value) != ("zero", "file")}
    return {"extract": extract, "head": plain["head"], "train": plain["train"], **judged, **selects}


def load_recipe(name: str, assignments: Iterable[str] = ()) -> Recipe:
    """Load a recipe by path, or by the name of an included one, with `--set` overrides applied.

    Raises:
        ConfigError: when the recipe does not exist, or a key or a value in it is refused.
    """
    values, assignments = _with_base(recipe_path(name), ()), list(assignments)
    values = _for_members(values, assignments, name)
    changed = with_assignments(values, assignments)
    if _head_name(changed) != _head_name(values):
        # The recipe's settings are for its own head; another one starts from its own defaults.
        values = {**values, "head": _laid_on(changed["head"], values.get("head", {}))}
        changed = with_assignments(values, assignments)
    return Recipe.parse(changed, f"recipe {name}")


def _for_members(values: dict[str, Any], assignments: list[str], name: str) -> dict[str, Any]:
    """Apply overrides to the members of an ensemble; one that sets a head selects that member, or replaces all.

    Raises:
        ConfigError: when an override sets a key of a head, and there are several.
    """
    tables = _tables(values)
    if not tables:
        return values
    heads = {_head_name(table): table for table in reversed(tables)}
    naming = [own for own in assignments if own.partition("=")[0].strip() in ("head", "head.name")]
    chosen = with_assignments({}, naming)
    alone = {key: value for key, value in values.items() if key != _ENSEMBLE}
    if chosen:
        table = heads.get(_head_name(chosen), {})
        return _laid_over(_below(alone, table), table)
    of_heads = [assignment for assignment in assignments if assignment.startswith("head.")]
    if of_heads:
        raise ConfigError(
            f"recipe {name} trains an ensemble of {', '.join(dict.fromkeys(map(_head_name, tables)))}; also set "
            f"head.name, so that {of_heads[0].partition('=')[0]} applies to one head"
        )
    shared = [own for own in assignments if own.partition(".")[0] in _OF_A_MEMBER]
    members = [with_assignments(table, shared) for table in tables]
    return {**values, _ENSEMBLE: {**values[_ENSEMBLE], "members": members}}


def with_assignments(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of a recipe's values with `--set` overrides applied; a preset replaces the localization.

    Steps replace the epochs of the recipe.

    Raises:
        ConfigError: when an override is malformed.
    """
    assignments = list(assignments)
    given = override({}, assignments)
    if "preset" in _section(given, "localize"):
        values = {key: value for key, value in values.items() if key != "localize"}
    for path in (("train",), ("refine", "train")):
        chosen = _section(given, *path)
        if "steps" in chosen and "epochs" not in chosen and "epochs" in _section(values, *path):
            assignments.append(f"{'.'.join(path)}.epochs=0")
    return override(values, assignments)


def localization_with(values: Mapping[str, Any], assignments: Sequence[str]) -> LocalizeConfig:
    """Return the localization of a recipe's plain `values` with `localize.key=value` overrides.

    Raises:
        UsageError: when an override is of another section: the head is already trained.
        OverrideError: when a key or a value is refused; the message names the first invalid override.
    """
    foreign = [assignment for assignment in assignments if not assignment.startswith("localize.")]
    if foreign:
        key = foreign[0].partition("=")[0].strip()
        near = nearest(key, LocalizeConfig.model_fields)
        hint = f"did you mean 'localize.{near}'? Otherwise train" if near else "train"
        raise UsageError(f"--set {foreign[0]}: a trained run accepts only localize.KEY=VALUE; {hint} a new run")
    return build_overridden(
        assignments,
        lambda some: LocalizeConfig.parse(with_assignments(values, some).get("localize", {}), section="localize"),
    )


def _section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return a section of a recipe's values, empty if there is none."""
    for key in path:
        section = values.get(key)
        values = section if isinstance(section, Mapping) else {}
    return values


def recipe_path(name: str) -> Path:
    """Return the file of a recipe, given by path or by the name of an included one.

    `recipes/kth/basnet.toml` is the included one in any working directory, unless such a file exists here.

    Raises:
        ConfigError: when there is no such recipe.
    """
    path = Path(name)
    if path.suffix == ".toml":
        own = RECIPES.parent / path
        return own if path.parts[0] == RECIPES.name and not path.exists() and own.is_file() else path
    if path.is_file() and not (RECIPES / f"{name}.toml").is_file():
        raise WrongKindError(f"{path} is not a recipe, but {kind_of(path)}; the name of a recipe's file ends in .toml")
    require_regular(path)
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        raise AbsentError(f"there is no recipe {name!r}; {suggest(name, recipe_names())}")
    return path


def _with_base(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe, laid over its `base`: another recipe, by path from its own folder or by name."""
    if path in above:
        raise ConfigError(f"recipes are based on each other in a circle: {', '.join(map(str, (*above, path)))}")
    values = read_toml(path)
    _place_preset(values, path.parent)
    base = values.pop("base", "")
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: wanted the name of a recipe, got {written(base)}")
    if not base:
        return values
    try:
        below = _with_base(path.parent / base if base.endswith(".toml") else recipe_path(base), (*above, path))
    except AbsentError as error:
        raise ConfigError(f"{path}: base: {error}") from None
    below = _below(below, values)
    below.pop("reported", None)
    return _laid_over(_laid_on_members(below, values), values)


def _tables(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the members' tables of a recipe; empty if they are not tables, which parsing then refuses."""
    section = values.get(_ENSEMBLE)
    tables = section.get("members") if isinstance(section, dict) else None
    return tables if isinstance(tables, list) and all(isinstance(table, dict) for table in tables) else []


def _laid_on_members(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the sections of a recipe over those of its base's members, too."""
    tables = _tables(below)
    if not tables:
        return below
    shared = {key: value for key, value in above.items() if key in _OF_A_MEMBER}
    members = [_laid_over(table, {key: shared[key] for key in shared if key in table}) for table in tables]
    return {**below, _ENSEMBLE: {**below[_ENSEMBLE], "members": members}}


def _below(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections under `above`: another head, or a preset, starts from its own defaults.

    A recipe with its own head, or with members, does not inherit the ensemble of its base.
    """
    another = "name" in _section(above, "head") and _head_name(above) != _head_name(below)
    preset = "preset" in _section(above, "localize")
    gone = {"head": another, "localize": preset, _ENSEMBLE: "head" in above or bool(_tables(above))}
    return {key: value for key, value in below.items() if not gone.get(key)}


def _place_preset(values: dict[str, Any], folder: Path) -> None:
    """Resolve a recipe's preset path relative to the recipe's own folder."""
    section = values.get("localize")
    if isinstance(section, dict) and str(section.get("preset", "")).endswith(".toml"):
        values["localize"] = {**section, "preset": str(folder / section["preset"])}


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; sections are merged key by key, and steps replace epochs."""
    result = dict(below)
    for key, value in above.items():
        section = result.get(key)
        if isinstance(value, dict) and isinstance(section, dict):
            replaced = {"epochs"} if "steps" in value else set()
            section = {name: setting for name, setting in section.items() if name not in replaced}
            value = {**section, **value}
        result[key] = value
    return result


def _laid_on(head: Any, own: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the recipe's own head for one that builds on it; nothing for any other head."""
    if not isinstance(head, dict) or "base" not in head or head["base"] != own.get("name"):
        return {}
    return {"base_settings": {key: value for key, value in own.items() if key != "name"}}


def _head_name(values: Mapping[str, Any]) -> str:
    head = values.get("head")
    return str(head.get("name", _DEFAULT_HEAD)) if isinstance(head, dict) else ""


def recipe_names() -> list[str]:
    """List the recipes included in the package."""
    paths = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.toml"))
    return sorted(path.as_posix().removesuffix(".toml") for path in paths if path.parts[0] != _BASES)


def run_name(recipe: Recipe, store_name: str, data_digest: str) -> str:
    """Return a readable part and a digest of everything that affects what is learned."""
    identity = {**recipe.training_identity(), "store": store_name, "data": data_digest}
    backbone = store_name.rpartition("-")[0] or store_name
    return f"{recipe.head_name}-{backbone}-{digest(identity)}"
