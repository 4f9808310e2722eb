"""A model: everything needed to find actions in new videos, independent of the run that it comes from.

It is a head with its parameters, an ensemble of models, or a student or a rescorer with its teacher. It is stored by
`wtal.pipeline.exchange.packed_model`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, model_validator

from wtal.config import Config, Record, conforming, digest
from wtal.data.store import FeatureStore
from wtal.data.store.index import Identity
from wtal.errors import UsageError, WtalError
from wtal.eval.label_check import LabelCheckJson
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.extraction.sources import Sources, read_sources
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.run_record import By, RecipeJson
from wtal.pipeline.runs import Run
from wtal.pipeline.stamps import stamps_of

if TYPE_CHECKING:
    from torch import Tensor

    from wtal.models.training.checkpoint import Network, Trained

Arrays = dict[str, NDArray[Any]]


class _Flow(Record):
    """Method of optical flow in an identity."""

    model_config = ConfigDict(extra="ignore")

    name: str
    implementation: str


class _Reader(Record):
    """Selection of readers in an identity."""

    model_config = ConfigDict(extra="ignore")

    policy: str


class _Features(Record):
    """Extraction settings in an identity, if it has any."""

    model_config = ConfigDict(extra="ignore")

    flow: _Flow | None = None
    reader: _Reader | None = None
    fps: str | None = None
    stride: int | str | None = None
    tail: str | None = None
    dtype: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.fps is not None and self.stride is None:
            raise ValueError("it has a rate but no stride")
        return self


class ModelRecord(Config):
    """Everything in a model except its arrays and its members, as JSON types."""

    by_hand: ClassVar[bool] = False

    classes: tuple[str, ...]
    """Classes in the order of the head's outputs."""
    recipe: RecipeJson
    """Recipe of the run, with every default spelled out."""
    seed: int | None
    features: Annotated[Identity, AfterValidator(conforming(_Features))]
    """Identity of the feature store."""
    feature_dims: dict[str, int]
    """Stream -> D; empty for an ensemble."""
    sources: dict[str, Any]
    """Names of the backbone and of its weights, in the form of `Sources`."""
    tuned_with_segments: bool
    label_check: LabelCheckJson | None = None
    """Check on held-out labels, if one was made."""
    step: int = 0
    """Training step of the parameters."""
    limit: float = 0.0
    """Limit of the scaler."""
    unit: bool = False
    """True if the scaler normalizes to unit length."""
    by: By | None = None
    """Kind of ensemble; None for a head."""
    attends: bool = False
    """True if an ensemble's activations include attention."""
    weights: tuple[float, ...] = ()
    """Weights of an ensemble's members, summing to 1."""
    scales: tuple[float, ...] = ()
    """Divisors of the members' scores, in an ensemble by detections."""


@dataclass(frozen=True, eq=False)
class Model:
    """`parameters` are the head's, student's or rescorer's; `shift` and `gain` map stream -> (D,) for its scaler.

    They are empty for an ensemble, which has `members`; a student or a rescorer has a `teacher`. `recipe` is the one of
    the `record`, parsed.
    """

    record: ModelRecord
    recipe: Recipe
    parameters: Arrays = field(default_factory=dict)
    shift: Arrays = field(default_factory=dict)
    gain: Arrays = field(default_factory=dict)
    members: tuple["Model", ...] = ()
    teacher: "Model | None" = None

    @property
    def features(self) -> Mapping[str, Any]:
        """Identity of the features."""
        return self.record.features

    @property
    def sources(self) -> Sources:
        """Names of the backbone and of its weights."""
        return Sources.parse(self.record.sources)

    @property
    def stamps(self) -> dict[str, Any]:
        """Statements included in every output, as for a run."""
        return stamps_of(self.features, self.record.tuned_with_segments, self.record.label_check)

    @property
    def name(self) -> str:
        """Head and digest, usable as a folder name."""
        return f"{self.recipe.head_name}-{self.digest[:6]}"

    @cached_property
    def digest(self) -> str:
        """Hex digest of everything that affects the output; not of the locations of weights, nor of checks."""
        own = self.record.plain()
        own = {key: value for key, value in own.items() if key not in ("sources", "label_check")}
        hasher = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
        for group in (self.parameters, self.shift, self.gain):
            for key in sorted(group):
                hasher.update(f"{key} {group[key].dtype} {group[key].shape}\n".encode())
                hasher.update(np.ascontiguousarray(group[key]).tobytes())
        for part in self.parts:
            hasher.update(part.digest.encode())
        return hasher.hexdigest()

    @property
    def parts(self) -> tuple["Model", ...]:
        """Models used by this one: the members of an ensemble, the teacher of a second stage; none for a head."""
        return self.members if self.teacher is None else (self.teacher,)

    def heads(self) -> Iterator["Model"]:
        """Yield the heads: this one, or those of all members or of the teacher, in order."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.heads()

    def students(self) -> Iterator["Model"]:
        """Yield the students and rescorers among this model and its members, in order."""
        if self.teacher is not None:
            yield self
        for part in self.parts:
            yield from part.students()

    def stores(self) -> dict[str, "Model"]:
        """Map the digest of each identity of features to the first head that uses them."""
        wanted: dict[str, Model] = {}
        for head in self.heads():
            wanted.setdefault(features_key(head), head)
        return wanted


def features_key(head: Model) -> str:
    """Return a digest of a head's input features."""
    return digest(head.features, 16)


def model_of(run: Run) -> Model:
    """Read a finished run, or an ensemble with all its members, as a model.

    Raises:
        WtalError: when the run is not finished, or a member is missing or has changed.
    """
    if run.refined:
        return _refined(run)
    return _ensemble(run) if run.ensemble else _head(run)


def _refined(run: Run) -> Model:
    from wtal.pipeline.refinement.trained import trained_rescorer, trained_student

    try:
        teacher = run.teacher()
    except WtalError as error:
        raise WtalError(f"{run.folder} needs its teacher for new videos, and that is missing: {error}") from None
    own = model_of(teacher)
    localize = run.teacher_localize
    record = own.record.model_copy(update={"recipe": {**own.record.recipe, "localize": localize.plain()}})
    asked = replace(own, record=record, recipe=own.recipe.model_copy(update={"localize": localize}))
    if isinstance(run.recipe.refinement, RescoreConfig):
        return _network(run, trained_rescorer(run), asked)
    return _network(run, trained_student(run), asked)


def _head(run: Run) -> Model:
    from wtal.pipeline.activations import trained_head

    if run.busy and not run.finished:
        raise WtalError(f"{run.folder} is still being trained; run again when it has finished")
    return _network(run, trained_head(run))


def _network(run: Run, trained: "Trained[Network]", teacher: Model | None = None) -> Model:
    scaler = trained.scaler
    record = _record(run, feature_dims=dict(run.feature_dims), step=trained.step, limit=scaler.limit, unit=scaler.unit)
    parameters = _arrays(trained.head.state_dict())
    return Model(record, run.recipe, parameters, _arrays(scaler.shift), _arrays(scaler.gain), teacher=teacher)


def _arrays(tensors: "Mapping[str, Tensor]") -> Arrays:
    return {key: tensor.cpu().numpy() for key, tensor in tensors.items()}


def _record(run: Run, **more: Any) -> ModelRecord:
    content = run.to_json()
    sources = Sources()
    if not run.ensemble:
        sources = read_sources(Path(os.path.normpath(run.folder / content["store"])))
    own = {key: content[key] for key in ("classes", "recipe", "seed", "features", "tuned_with_segments")}
    beside = {"sources": sources.to_json(), "label_check": content.get("label_check")}
    return ModelRecord.parse({**own, "feature_dims": {}, **beside, **more}, str(run.folder))


def _ensemble(run: Run) -> Model:
    if not run.finished:
        raise WtalError(f"{run.folder} is not finished; run `wtal ensemble` with its members again to resume")
    entries: Sequence[Mapping[str, Any]] = run.to_json()["ensemble"]["members"]
    members = tuple(_member(run, entry) for entry in entries)
    more: dict[str, Any] = {"by": run.ensemble, "weights": run.member_weights}
    if run.ensemble == "activations":
        more["attends"] = "attention" in FeatureStore.open(run.activations_folder()).dims
    else:
        lacking = [entry["run"] for entry in entries if "scale" not in entry]
        if lacking:
            raise UsageError(
                f"{run.folder} lacks the score divisors of {lacking[0]}, as it was made by an older version; "
                "make it again with --out OTHER"
            )
        more["scales"] = tuple(entry["scale"] for entry in entries)
    return Model(_record(run, **more), run.recipe, members=members)


def _member(run: Run, entry: Mapping[str, Any]) -> Model:
    folder = Path(os.path.normpath(run.folder / entry["run"]))
    try:
        member = Run.open(folder)
    except WtalError as error:
        raise WtalError(f"{run.folder} needs its members for new videos, and one is missing: {error}") from None
    asked = [digest(member.recipe.localize.plain()), member.recipe.head_name, member.seed]
    if asked != [entry["localize"], entry["head"], entry["seed"]]:
        raise WtalError(f"{folder} is no longer the run that {run.folder} was made from; make the ensemble again")
    return model_of(member)
