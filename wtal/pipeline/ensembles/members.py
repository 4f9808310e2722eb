"""Members of an ensemble: checked to go together, their classes and videos matched."""

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
    """One seed of a run (or an ensemble), and its weight."""

    run: Run
    weight: float

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run.folder

    @property
    def localize(self) -> LocalizeConfig:
        """Localization that makes detections of the run's activations."""
        return self.run.recipe.localize

    @property
    def rules(self) -> EvaluateConfig:
        """Subsets that the run was trained, selected and reported on."""
        return self.run.recipe.evaluate

    def columns(self, classes: Sequence[str]) -> list[int]:
        """Return the position of each of the `classes` in the member's own list."""
        return [self.run.classes.index(name) for name in classes]


def gather(runs: Sequence[Path], weights: Sequence[float], localize: Sequence[LocalizeConfig] = ()) -> list[Member]:
    """Open the seeds of all runs; a run's weight is shared by its seeds, and all weights together are 1.

    Raises:
        UsageError: when something is no run, is named twice, or they do not go together.
        WtalError: when one is not finished.
    """
    if weights and len(weights) != len(runs):
        raise UsageError(f"--weights wants one for each of the {len(runs)} runs, got {len(weights)}")
    if any(not math.isfinite(weight) or weight <= 0 for weight in weights):
        raise UsageError(f"--weights are numbers above 0, got {', '.join(f'{weight:g}' for weight in weights)}")
    total = sum(weights) or len(runs)
    members = []
    for path, weight in zip(runs, weights or [1.0] * len(runs), strict=True):
        seeds = _finished(path)
        members += [Member(seed, weight / total / len(seeds)) for seed in seeds]
    folders = [member.folder.resolve() for member in members]
    twice = [folder for number, folder in enumerate(folders) if folder in folders[:number]]
    if twice:
        raise UsageError(f"{twice[0]} is named twice; give it more weight with --weights")
    if len(members) < 2:
        raise UsageError(f"an ensemble has two members or more, got {len(members)}: {', '.join(map(str, runs))}")
    _refuse_strangers(members)
    return members


def _finished(path: Path) -> list[Run]:
    if not path.exists():
        raise UsageError(f"there is no run at {path}")
    seeds = open_runs(path)
    for seed in seeds:
        if not seed.finished:
            raise WtalError(f"{seed.folder} is not finished; train it to its end first, it goes on where it was")
    return seeds


def _refuse_strangers(members: Sequence[Member]) -> None:
    """Refuse members of other classes, another reported subset or other annotations than the first's."""
    first = members[0]
    digests: dict[Path, str] = {}
    for member in members:
        lacks = [name for name in first.run.classes if name not in member.run.classes]
        more = [name for name in member.run.classes if name not in first.run.classes]
        if lacks or more:
            both = (("lacks", lacks), ("adds", more))
            clauses = [f"it {verb} {', '.join(names[:3])}" for verb, names in both if names]
            raise UsageError(f"{member.folder} has other classes than {first.folder}: {' and '.join(clauses)}")
        subsets = [each.rules.test_subset for each in (first, member)]
        if subsets[0] != subsets[1]:
            raise UsageError(
                f"{member.folder} reports subset {subsets[1]!r}, {first.folder} {subsets[0]!r}: what one has trained "
                "on another would report"
            )
        file = member.run.annotations_file()
        if file not in digests:
            digests[file] = content_digest(read_annotations(file))
        if digests[file] != digests[first.run.annotations_file()]:
            raise UsageError(
                f"{member.folder} was trained with other annotations than {first.folder}: what one has trained on "
                "another might report"
            )


def joined_rules(members: Sequence[Member]) -> EvaluateConfig:
    """Return the first's rules, with all subsets that trained or selected any member."""

    def joined(names: Iterable[str]) -> str:
        return ",".join(dict.fromkeys(part.strip() for name in names if name for part in name.split(",")))

    trained = joined(member.rules.train_subset for member in members)
    selected = joined(member.rules.select_subset for member in members)
    return members[0].rules.model_copy(update={"train_subset": trained, "select_subset": selected})


def joined_features(members: Sequence[Member]) -> dict[str, Any]:
    """Return what the features of all members were made by, in the form of a store's identity."""
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
    """Match the members' video ids: for each, common id -> its own.

    Ids may differ by a `v_`; the first member's form is the common one.
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
    """Return a digest of a store's index, and of size and ends of its shards."""
    files = sorted(path for path in store.path.iterdir() if path.suffix == ".npy")
    return digest(
        [file_sha256(store.path / "index.json"), *([path.name, file_fingerprint(path)] for path in files)], 16
    )


def mark_of_file(path: Path) -> str:
    """Return a digest of a file's content."""
    return file_sha256(path)[:16]


def lacking(members: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the videos that are not in all members."""
    every = set().union(*members)
    return sorted(key for key in every if any(key not in names for names in members))
