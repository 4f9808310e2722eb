"""Schema of a run's `run.json`, checked when it is read."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from wtal.config import Record, conforming, shallow
from wtal.data.store.index import Identity
from wtal.errors import ConfigError
from wtal.eval.label_check import LabelCheckJson

By = Literal["activations", "detections"]
"""Kinds of ensembles, by the data combined."""


def _whole(label: str) -> str:
    """Accept a text that can be encoded as UTF-8."""
    try:
        label.encode()
    except UnicodeEncodeError:
        raise ValueError(f"wanted whole characters, got half a character in {label!a}") from None
    return label


class _Rules(Record):
    """Subsets of a recipe; its other rules are checked where the recipe is used."""

    model_config = ConfigDict(extra="ignore")

    train_subset: str
    test_subset: str
    select_subset: str


class _Head(Record):
    """Head of a recipe."""

    model_config = ConfigDict(extra="ignore")

    name: str


class _Sections(Record):
    """Sections of a recipe that are used before the recipe is parsed."""

    model_config = ConfigDict(extra="ignore")

    head: _Head
    localize: dict[str, Any]
    evaluate: _Rules
    extract: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


RecipeJson = Annotated[dict[str, Any], AfterValidator(shallow), AfterValidator(conforming(_Sections))]
"""JSON of a run's recipe."""


class _Member(Record):
    """A member of an ensemble."""

    run: str
    head: str
    seed: int | None
    weight: float = Field(gt=0)
    mark: str
    localize: str
    tuned_with_segments: bool
    scale: float | None = Field(None, gt=0)


class _Joined(Record):
    """An ensemble."""

    by: By
    digest: str
    members: list[_Member] = Field(min_length=1)


class _Refined(Record):
    """A second stage: folder and localization of the teacher, and a digest of the student's training data."""

    teacher: str
    localize: Annotated[dict[str, Any], AfterValidator(shallow)]
    mark: str


class _Count(Record):
    """Number of videos by what is known of a class."""

    positive: int
    negative: int
    unknown: int


class RunRecord(Record):
    """Content of `run.json`; the recipe is parsed where it is used."""

    format: Literal[1] = 1
    recipe: RecipeJson
    seed: int | None
    store: str
    annotations: str
    features: Identity
    feature_dims: dict[str, Annotated[int, Field(ge=1)]]
    classes: list[Annotated[str, AfterValidator(_whole)]]
    tuned_with_segments: bool
    labels: dict[str, _Count] | None = None
    untrained: list[str] | None = None
    label_check: LabelCheckJson | None = None
    imported: dict[str, str] | None = None
    ensemble: _Joined | None = None
    refined: _Refined | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError("a class is named twice")
        if self.ensemble is None and self.refined is None and not {"extract", "train"} <= self.recipe.keys():
            raise ConfigError("the recipe of a head needs the sections extract and train")
        return self


class FinishRecord(Record):
    """Content of `finished.json`: a training's step and selection score, or numbers of members or rounds."""

    step: int | None = None
    selection_score: float | None = None
    members: int | None = None
    rounds: int | None = None
