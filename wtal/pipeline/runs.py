"""A run: the folder of one seed of a training, or of an ensemble, opened once and passed around as one object.

A folder with several seeds holds several runs: `open_runs` opens each of them, in order of seed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset
from wtal.data.files import write_json
from wtal.data.kinds import RUN_RECORD, no_run
from wtal.data.locks import is_locked
from wtal.data.parsing.json_keys import checked, read_record, read_values
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.recipe import Recipe, localization_with, training_identity
from wtal.pipeline.run_record import By, FinishRecord, RunRecord
from wtal.pipeline.stamps import stamps_of

ACTIVATIONS = "activations"
"""Folder of a run's class activations."""
LOCK = ".lock"
"""File that is locked while a run is being trained, or its activations are being computed."""
UNTRAINED = "untrained"
"""Key of the classes absent from all training videos; omitted if there are none."""
_FINISHED = "finished.json"
_CHECK = "label_check"
_KEYS = {name for name, field in RunRecord.model_fields.items() if field.is_required()}
_WAY_OUT = "restore it, train the run again, or upgrade wtal"
_FINISH_AGAIN = "remove it, and repeat the command that made the run: it resumes from what is there"


@dataclass(frozen=True, eq=False)
class Run:
    """A run's folder and the content of its `run.json`, read once; its recipe is parsed once, on first use."""

    folder: Path
    _record: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Read the `run.json` of a seed's or an ensemble's folder, and check its `finished.json`, if present.

        Raises:
            WtalError: when the first is missing, or either is damaged.
        """
        _check_finish(folder / _FINISHED)
        return cls(folder, _read_record(folder / RUN_RECORD))

    @classmethod
    def write(cls, folder: Path, record: dict[str, Any]) -> "Run":
        """Write the `run.json` of a new folder of a seed or an ensemble."""
        write_json(folder / RUN_RECORD, record)
        return cls(folder, record)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Write the `finished.json` that distinguishes a complete run from one to be resumed."""
        write_json(self.folder / _FINISHED, outcome)

    def reopen(self) -> None:
        """Remove the `finished.json`, so that the run is to be resumed."""
        (self.folder / _FINISHED).unlink(missing_ok=True)

    def with_label_check(self, check: Mapping[str, Any]) -> "Run":
        """Write the result of a label check (`LabelCheck.to_json`) into `run.json`; return the updated run."""
        return Run.write(self.folder, {**self._record, _CHECK: dict(check)})

    @property
    def label_counts(self) -> Mapping[str, Any] | None:
        """Counts of videos per class by what is known of them; None if a run did not record them."""
        counts: Mapping[str, Any] | None = self._record.get("labels")
        return counts

    @property
    def untrained(self) -> tuple[str, ...]:
        """Classes absent from all training videos."""
        return tuple(self._record.get(UNTRAINED, ()))

    @property
    def label_check(self) -> Mapping[str, Any] | None:
        """Figures and verdicts of the label check; None without a check."""
        check: Mapping[str, Any] | None = self._record.get(_CHECK)
        return check

    @cached_property
    def recipe(self) -> Recipe:
        """Recipe of the run; an ensemble's has its localization and its subsets."""
        return checked(self.folder / RUN_RECORD, self._record["recipe"], Recipe, _WAY_OUT, ConfigError, "recipe")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head's outputs."""
        return tuple(self._record["classes"])

    @property
    def features(self) -> Mapping[str, Any]:
        """Identity of the feature store of the run."""
        features: Mapping[str, Any] = self._record["features"]
        return features

    @property
    def feature_dims(self) -> Mapping[str, int]:
        """Stream of the features -> its dimensions; empty for an ensemble."""
        dims: Mapping[str, int] = self._record["feature_dims"]
        return dims

    @property
    def seed(self) -> int | None:
        """Seed of the training; None for an ensemble."""
        seed: int | None = self._record["seed"]
        return seed

    @property
    def training_identity(self) -> dict[str, Any]:
        """Everything that its head's activations depend on, besides the features of a video."""
        own = {key: self._record[key] for key in ("seed", "features", "classes")}
        return {**own, "recipe": training_identity(self._record["recipe"])}

    @property
    def ensemble(self) -> By | None:
        """Kind of ensemble; None for a head's own run."""
        by: By | None = self._record.get("ensemble", {}).get("by")
        return by

    @property
    def ensemble_digest(self) -> str | None:
        """Digest of an ensemble's members, weights and localization; None for a head's own run."""
        mark: str | None = self._record.get("ensemble", {}).get("digest")
        return mark

    @property
    def member_weights(self) -> tuple[float, ...]:
        """Weight of each member of an ensemble; empty for a head's own run."""
        return tuple(member["weight"] for member in self._record.get("ensemble", {}).get("members", ()))

    def members(self) -> "list[Run]":
        """Open the members of an ensemble; empty for a head's own run.

        Raises:
            WtalError: when a member is missing.
        """
        named = self._record.get("ensemble", {}).get("members", ())
        return [Run.open(Path(os.path.normpath(self.folder / member["run"]))) for member in named]

    @property
    def refined(self) -> bool:
        """True for a student taught by another run."""
        return self._record.get("refined") is not None

    def teacher(self) -> "Run":
        """Open the teacher of a refined run.

        Raises:
            WtalError: when the teacher is missing.
        """
        return Run.open(Path(os.path.normpath(self.folder / self._record["refined"]["teacher"])))

    @cached_property
    def teacher_localize(self) -> LocalizeConfig:
        """Localization of a refined run's teacher; the teacher's own, unless overridden."""
        values = self._record["refined"]["localize"]
        return checked(self.folder / RUN_RECORD, values, LocalizeConfig, _WAY_OUT, ConfigError, "refined.localize")

    @property
    def finished(self) -> bool:
        """True once the training, or the creation of the ensemble, is complete."""
        return is_finished(self.folder)

    @property
    def busy(self) -> bool:
        """True while a process trains the run, or computes its activations."""
        return is_locked(self.folder / LOCK)

    @property
    def tuned_with_segments(self) -> bool:
        """True if annotated times chose the step or the localization."""
        return bool(self._record["tuned_with_segments"])

    @property
    def stamps(self) -> dict[str, Any]:
        """Statements included in every output of the run."""
        stamps = stamps_of(self.features, self.tuned_with_segments, self.label_check)
        return stamps | ({UNTRAINED: list(self.untrained)} if self.untrained else {})

    @property
    def store_name(self) -> str:
        """Name of the folder of its feature store, which may be missing."""
        return Path(self._record["store"]).name

    def store_folder(self) -> Path:
        """Return the folder of the run's feature store.

        Raises:
            WtalError: when the store is missing.
        """
        return self._resolved("store")

    def store(self) -> FeatureStore:
        """Open the run's feature store.

        Raises:
            WtalError: when the store is missing.
        """
        return FeatureStore.open(self.store_folder())

    def annotations_file(self) -> Path:
        """Return the annotation file of the run.

        Raises:
            WtalError: when the file is missing.
        """
        return self._resolved("annotations")

    def annotations(self) -> Dataset:
        """Read the annotations of the run.

        Raises:
            WtalError: when the annotations are missing.
        """
        return read_annotations(self.annotations_file())

    def localize(self, assignments: Sequence[str] = ()) -> LocalizeConfig:
        """Return the run's localization with `localize.key=value` overrides.

        Raises:
            UsageError: when an override belongs to another section: the head is already trained.
            ConfigError: when a key or a value is refused; the message names the override.
        """
        own = self.recipe.localize
        return localization_with(self._record["recipe"], assignments) if assignments else own

    def detections_file(
        self, config: LocalizeConfig | None = None, use_labels: bool = False, stage: int | None = None
    ) -> Path:
        """Return the output path of `detect`; `config` is None for the run's own localization."""
        own = self.recipe.localize
        marks = [] if stage is None else [f"stage-{stage}"]
        if use_labels or (config is not None and config != own):
            marks.append(digest([(config or own).plain(), use_labels]))
        return self.folder / "detections" / f"{'-'.join(['detections', *marks])}.json"

    def detections(self, streams: str | None = None, stage: int | None = None) -> Path:
        """Return the detections by the run's own recipe, by that with other streams, or of a training stage.

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
        """Return the folder of the run's class activations, or of those at the end of a training stage.

        A refined run uses those of its teacher.

        Raises:
            WtalError: when the teacher is missing.
        """
        if self.refined:
            return self.teacher().activations_folder()
        return self.folder / (ACTIVATIONS if stage is None else f"{ACTIVATIONS}-stage-{stage}")

    def to_json(self) -> dict[str, Any]:
        """Return the folder, whether it is finished, and the content of `run.json`."""
        return {"path": str(self.folder), "finished": self.finished, **self._record}

    def _resolved(self, key: str) -> Path:
        text = self._record[key]
        path = Path(os.path.normpath(self.folder / text))
        if not path.exists():
            raise WtalError(
                f"{self.folder / RUN_RECORD} refers to {text}, which does not exist; pass its new path with an option"
            )
        return path


def open_runs(folder: Path) -> list[Run]:
    """Open the run in a folder, or those in its seed-* folders, in order of seed.

    Raises:
        UsageError: when the folder holds no run.
        WtalError: when a `run.json` is damaged.
    """
    return [Run.open(seed) for seed in _seed_folders(folder)]


def open_run(folder: Path) -> Run:
    """Open the only run in a folder.

    Raises:
        UsageError: when the folder holds no run, or several seeds of one.
        WtalError: when its `run.json` is damaged.
    """
    folders = _seed_folders(folder)
    if len(folders) > 1:
        raise UsageError(
            f"{folder} has {len(folders)} seeds, and one run is wanted; pass {folders[0]} or another of them, or "
            f"average them: wtal ensemble {folder}"
        )
    return Run.open(folders[0])


def is_run(folder: Path) -> bool:
    """Return whether a folder belongs to a seed or an ensemble, finished or not."""
    return (folder / RUN_RECORD).is_file()


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds a finished run; `Run.open` checks the content of its `finished.json`."""
    return (folder / _FINISHED).exists()


def begun_runs(runs: Path) -> "list[Run]":
    """Return the unfinished seeds below `runs`."""
    return [
        Run.open(path.parent) for path in sorted(runs.glob(f"*/seed-*/{RUN_RECORD}")) if not is_finished(path.parent)
    ]


def finish_times(runs: Path) -> dict[Path, int]:
    """Return the folders of finished seeds and ensembles below `runs`, with their end in nanoseconds."""
    paths = [*runs.glob(f"*/seed-*/{_FINISHED}"), *runs.glob(f"*/{_FINISHED}")]
    return {path.parent: path.stat().st_mtime_ns for path in paths}


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run, or seeds of one."""
    return is_run(folder) or any(folder.glob(f"seed-*/{RUN_RECORD}"))


def _seed_folders(folder: Path) -> list[Path]:
    if is_run(folder):
        return [folder]
    seeds = {path.parent.name.removeprefix("seed-"): path.parent for path in folder.glob(f"seed-*/{RUN_RECORD}")}
    numbered = sorted((int(number), seed) for number, seed in seeds.items() if number.isdecimal())
    if not numbered:
        raise no_run(folder)
    return [seed for _, seed in numbered]


def _check_finish(path: Path) -> None:
    """Refuse a damaged `finished.json`; an unfinished run has none.

    Raises:
        WtalError: naming the file and the way out.
    """
    try:
        read_record(path, FinishRecord, _FINISH_AGAIN, WtalError)
    except FileNotFoundError:
        return
    except OSError as error:
        raise WtalError(f"{path} cannot be read: {error.strerror}; {_FINISH_AGAIN}") from None


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = read_values(path, _WAY_OUT, WtalError)
    except OSError as error:
        raise WtalError(f"{path} cannot be read as a run: {error.strerror}") from None
    missing = _KEYS - content.keys() if isinstance(content, dict) else _KEYS
    if missing:
        raise WtalError(f"{path} is not a run: it lacks {', '.join(sorted(missing))}; train it again")
    checked(path, content, RunRecord, _WAY_OUT, WtalError)
    record: dict[str, Any] = content
    return record
