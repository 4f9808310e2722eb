"""A run: the folder of one seed of a training, or of an ensemble, opened once and passed on as one object.

A folder with several seeds is several runs: `open_runs` opens each of them, in order of seed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.recipe import Recipe, with_assignments

By = Literal["activations", "detections"]
"""How an ensemble is put together."""

TUNED = "tuned with segments: some of the annotated times chose the step or the settings that are used"
"""Printed with every figure that annotated times had a part in."""

_RECORD = "run.json"
_KEYS = {"recipe", "seed", "store", "annotations", "features", "feature_dims", "classes", "tuned_with_segments"}


@dataclass(frozen=True, eq=False)
class Run:
    """A run's folder and the content of its `run.json`, read once; its recipe is parsed once, when it is first used."""

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Read the `run.json` of a seed's or an ensemble's folder.

        Raises:
            WtalError: when it is missing or damaged.
        """
        return cls(folder, _read_record(folder / _RECORD))

    @cached_property
    def recipe(self) -> Recipe:
        """Recipe that the run was made with; an ensemble's has its localization and its subsets."""
        return Recipe.parse(self.record["recipe"], str(self.folder / _RECORD))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head's outputs."""
        return tuple(self.record["classes"])

    @property
    def features(self) -> Mapping[str, Any]:
        """Identity of the feature store that the run was made with."""
        features: Mapping[str, Any] = self.record["features"]
        return features

    @property
    def ensemble(self) -> By | None:
        """Kind of ensemble; None for a head's own run."""
        by: By | None = self.record.get("ensemble", {}).get("by")
        return by

    @property
    def finished(self) -> bool:
        """True once the training, or the making of the ensemble, has ended."""
        return (self.folder / "finished.json").is_file()

    @property
    def tuned_with_segments(self) -> bool:
        """True where annotated times chose the step or the localization."""
        return bool(self.record["tuned_with_segments"])

    @property
    def stamps(self) -> dict[str, Any]:
        """Statements in every output of the run: the weights behind its features, and a choice made with segments."""
        return {"weights": weights_of(self.features), "tuned_with_segments": self.record["tuned_with_segments"]}

    def store_folder(self) -> Path:
        """Return the folder of the run's feature store.

        Raises:
            WtalError: when it has gone.
        """
        return self._resolved("store")

    def store(self) -> FeatureStore:
        """Open the run's feature store.

        Raises:
            WtalError: when it has gone.
        """
        return FeatureStore.open(self.store_folder())

    def annotations_file(self) -> Path:
        """Return the annotation file that the run was made with.

        Raises:
            WtalError: when it has gone.
        """
        return self._resolved("annotations")

    def annotations(self) -> Dataset:
        """Read the annotations that the run was made with.

        Raises:
            WtalError: when they have gone.
        """
        return read_annotations(self.annotations_file())

    def localize(self, assignments: Sequence[str] = ()) -> LocalizeConfig:
        """Return the run's localization with `localize.key=value` overrides.

        Raises:
            UsageError: when an override is of another section: the head is trained already.
            ConfigError: when a key or a value is refused; the message names the override.
        """
        own = self.recipe.localize
        return overridden(self.record["recipe"], assignments) if assignments else own

    def detections_file(
        self, config: LocalizeConfig | None = None, use_labels: bool = False, stage: int | None = None
    ) -> Path:
        """Return where `detect` writes; `config` is None for the run's own localization."""
        own = self.recipe.localize
        marks = [] if stage is None else [f"stage-{stage}"]
        if use_labels or (config is not None and config != own):
            marks.append(digest([(config or own).plain(), use_labels]))
        return self.folder / "detections" / f"{'-'.join(['detections', *marks])}.json"

    def detections(self, streams: str | None = None, stage: int | None = None) -> Path:
        """Return the detections by the run's own recipe, or by that with other streams, or of a stage of training.

        Raises:
            UsageError: when there are none yet.
        """
        config = self.localize([] if streams is None else [f'localize.streams="{streams}"'])
        path = self.detections_file(config, stage=stage)
        if path.is_file():
            return path
        options = ("" if streams is None else f" --streams {streams}") + ("" if stage is None else f" --stage {stage}")
        raise UsageError(f"{self.folder} has no such detections yet; run: wtal detect {self.folder}{options}")

    def activations_folder(self, stage: int | None = None) -> Path:
        """Return the folder of the run's class activations, or of those at the end of a stage of its training."""
        return self.folder / ("activations" if stage is None else f"activations-stage-{stage}")

    def _resolved(self, key: str) -> Path:
        text = self.record[key]
        path = Path(os.path.normpath(self.folder / text))
        if not path.exists():
            raise WtalError(f"{self.folder / _RECORD} names {text}, which is not there; name another with an option")
        return path


def open_runs(folder: Path) -> list[Run]:
    """Open the run in a folder, or those in its seed-* folders, in order of seed.

    Raises:
        UsageError: when the folder holds no run.
        WtalError: when a `run.json` is damaged.
    """
    return [Run.open(seed) for seed in _seed_folders(folder)]


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run, or seeds of one."""
    return (folder / _RECORD).is_file() or any(folder.glob(f"seed-*/{_RECORD}"))


def _seed_folders(folder: Path) -> list[Path]:
    if folder.is_file():
        raise UsageError(f"{folder} is no run: it is a file, wanted is a run's folder")
    if (folder / _RECORD).is_file():
        return [folder]
    seeds = {path.parent.name.removeprefix("seed-"): path.parent for path in folder.glob(f"seed-*/{_RECORD}")}
    numbered = sorted((int(number), seed) for number, seed in seeds.items() if number.isdecimal())
    if not numbered:
        raise UsageError(f"{folder} is no run: it holds neither run.json nor seed-*/run.json")
    return [seed for _, seed in numbered]


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WtalError(f"{path} cannot be read as a run: {error}") from None
    missing = _KEYS - content.keys() if isinstance(content, dict) else _KEYS
    if missing:
        raise WtalError(f"{path} is no run: it lacks {', '.join(sorted(missing))}; train it again")
    record: dict[str, Any] = content
    return record


def overridden(values: Mapping[str, Any], assignments: Sequence[str]) -> LocalizeConfig:
    """Return the localization of a recipe's plain `values` with `localize.key=value` overrides.

    Raises:
        UsageError: when an override is of another section.
        ConfigError: when a key or a value is refused; the message names the first override that is wrong by itself.
    """
    refuse_other_sections(assignments)
    try:
        return _localization(values, assignments, "--set")
    except ConfigError:
        for assignment in assignments:
            _localization(values, [assignment], f"--set {assignment}")
        raise


def _localization(values: Mapping[str, Any], assignments: Sequence[str], where: str) -> LocalizeConfig:
    return LocalizeConfig.parse(with_assignments(values, assignments).get("localize", {}), where)


def refuse_other_sections(assignments: Sequence[str]) -> None:
    """Refuse overrides of what is trained already.

    Raises:
        UsageError: naming the first.
    """
    others = [assignment for assignment in assignments if not assignment.startswith("localize.")]
    if others:
        raise UsageError(f"a trained run takes --set localize.KEY=VALUE alone, got {others[0]}; train another run")


def weights_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return stream -> the weights that a store's features were made with: `random SEED`, `sha256 DIGEST` or `none`."""
    learned = {stream: entry.get("weights") or {} for stream, entry in identity.get("weights", {}).items()}
    return {stream: " ".join(f"{k} {v}" for k, v in entry.items()) or "none" for stream, entry in learned.items()}
