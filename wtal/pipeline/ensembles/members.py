"""Members of an ensemble: checked for compatibility, their classes and videos matched."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import content_digest
from wtal.data.files import file_sha256
from wtal.data.names import match_ids
from wtal.data.store import FeatureStore
from wtal.data.store.writer import file_fingerprint
from wtal.errors import UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.runs import Run, open_runs


@dataclass(frozen=True)
class Member:
    """A member: one seed of a run (or an ensemble), and its weight."""

    run: Run
    weight: float

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run.folder

    @property
    def localize(self) -> LocalizeConfig:
        """Localization settings of the run's detections."""
        return self.run.recipe.localize

    @property
    def rules(self) -> EvaluateConfig:
        """Subsets used to train, select and report the run."""
        return self.run.recipe.evaluate

    def columns(self, classes: Sequence[str]) -> list[int]:
        """Return the position of each of the `classes` in the member's own list."""
        return [self.run.classes.index(name) for name in classes]


def gather(runs: Sequence[Path], weights: Sequence[float], localize: Sequence[LocalizeConfig] = ()) -> list[Member]:
    """Open the seeds of all runs; seeds share their run's weight, and all weights sum to 1.

    Raises:
        UsageError: when a path is not a run or is named twice, or the runs are incompatible.
        WtalError: when a run is not finished.
    """
    if weights and len(weights) != len(runs):
        raise UsageError(f"--weights takes one per run, {len(runs)} in all, got {len(weights)}")
    if any(not math.isfinite(weight) or weight <= 0 for weight in weights):
        raise UsageError(f"--weights must be numbers above 0, got {', '.join(f'{weight:g}' for weight in weights)}")
    total = sum(weights) or len(runs)
    members = []
    for path, weight in zip(runs, weights or [1.0] * len(runs), strict=True):
        seeds = _finished(path)
        members += [Member(seed, weight / total / len(seeds)) for seed in seeds]
    folders = [member.folder.resolve() for member in members]
    twice = [folder for number, folder in enumerate(folders) if folder in folders[:number]]
    if twice:
        raise UsageError(f"{twice[0]} is named twice; to give it more weight, use --weights")
    if len(members) < 2:
        raise UsageError(f"an ensemble needs at least two members, got {len(members)}: {', '.join(map(str, runs))}")
    _refuse_strangers(members)
    return members


def _finished(path: Path) -> list[Run]:
    if not path.exists():
        raise UsageError(f"there is no run at {path}")
    seeds = open_runs(path)
    for seed in seeds:
        if not seed.finished:
            raise WtalError(f"{seed.folder} is not finished; finish training it first; it resumes where it stopped")
    return seeds


def _refuse_strangers(members: Sequence[Member]) -> None:
    """Refuse members with classes, a reported subset or annotations other than the first's."""
    first = members[0]
    digests: dict[Path, str] = {}
    for member in members:
        lacks = [name for name in first.run.classes if name not in member.run.classes]
        more = [name for name in member.run.classes if name not in first.run.classes]
        if lacks or more:
            both = (("lacks", lacks), ("adds", more))
            clauses = [f"it {verb} {', '.join(names[:3])}" for verb, names in both if names]
            raise UsageError(f"{member.folder} has classes other than those of {first.folder}: {' and '.join(clauses)}")
        subsets = [each.rules.test_subset for each in (first, member)]
        if subsets[0] != subsets[1]:
            raise UsageError(
                f"{member.folder} reports subset {subsets[1]!r}, {first.folder} {subsets[0]!r}: one may have trained "
                "on videos that the other reports"
            )
        file = member.run.annotations_file()
        if file not in digests:
            digests[file] = content_digest(read_annotations(file))
        if digests[file] != digests[first.run.annotations_file()]:
            raise UsageError(
                f"{member.folder} was trained with annotations other than those of {first.folder}: one may have "
                "trained on videos that the other reports"
            )


def joined_rules(members: Sequence[Member]) -> EvaluateConfig:
    """Return the first's rules, with all subsets used to train or select any member."""

    def joined(names: Iterable[str]) -> str:
        return ",".join(dict.fromkeys(part.strip() for name in names if name for part in name.split(",")))

    trained = joined(member.rules.train_subset for member in members)
    selected = joined(member.rules.select_subset for member in members)
    return members[0].rules.model_copy(update={"train_subset": trained, "select_subset": selected})


def joined_features(members: Sequence[Member]) -> dict[str, Any]:
    """Return the sources of all members' features, in the form of a store's identity."""
    stores = {digest(member.run.features): member for member in members}
    if len(stores) == 1:
        return dict(members[0].run.features)
    backbones = dict.fromkeys(str(member.run.features.get("backbone", "unknown")) for member in stores.values())
    learned = {
        f"{stream} of {member.run.store_name}": weights
        for member in stores.values()
        for stream, weights in member.run.features.get("weights", {}).items()
    }
    parts = [member.run.features for member in stores.values()]
    return {"backbone": "+".join(backbones), "weights": learned, "ensemble": parts}


def common_ids(members: Sequence[Iterable[str]]) -> list[dict[str, str]]:
    """Match the members' video ids: for each member, common id -> its own.

    Ids may differ by a leading `v_`; the first member's form is the common one.
    """
    known: list[str] = []
    names = []
    for ids in members:
        own = list(ids)
        matched = match_ids(known, own)
        rest = [key for key in own if key not in set(matched.values())]
        known += rest
        names.append(matched | {key: key for key in rest})
    return names


def mark_of_store(store: FeatureStore) -> str:
    """Return a digest of a store's index, and of the size and ends of its shards."""
    files = sorted(path for path in store.path.iterdir() if path.suffix == ".npy")
    return digest(
        [file_sha256(store.path / "index.json"), *([path.name, file_fingerprint(path)] for path in files)], 16
    )


def mark_of_file(path: Path) -> str:
    """Return a digest of a file's content."""
    return file_sha256(path)[:16]


def lacking(members: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the videos missing from some members."""
    every = set().union(*members)
    return sorted(key for key in every if any(key not in names for names in members))
