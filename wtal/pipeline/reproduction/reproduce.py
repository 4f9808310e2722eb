"""Published features and annotations of a dataset -> a table of its methods next to the papers' rows, with origin."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import content_digest
from wtal.data.files import write_atomic, write_json
from wtal.data.store import FeatureStore
from wtal.data.store.index import INDEX
from wtal.errors import UsageError
from wtal.pipeline.comparison.compare import Comparison, PlannedRow, compare, planned_rows, question_of
from wtal.pipeline.comparison.table import markdown_table, to_json
from wtal.pipeline.ensembles.train_members import resolve_recipe
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import recipe_names
from wtal.pipeline.stamps import weights_of
from wtal.pipeline.workspace import Workspace
from wtal.registry import suggest
from wtal.version import installed_version

DATASETS = ("thumos14", "activitynet-1.2", "activitynet-1.3", "hacs")
"""Datasets with recipes and published features."""
_LIBRARIES = ("torch", "numpy")


@dataclass(frozen=True)
class Reproduction:
    """The table of a dataset, and its origin as JSON types."""

    dataset: str
    comparison: Comparison
    origin: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {"dataset": self.dataset, **to_json(self.comparison), "made_of": self.origin}

    def markdown(self) -> str:
        """Return the table, remarks on it, and its origin."""
        origin = [f"- {line}" for line in _origin_lines(self.origin)]
        return "\n".join([markdown_table(self.comparison), "", "Made of:", "", *origin])

    def write(self, folder: Path) -> list[Path]:
        """Write `table.md` and `table.json` into a folder."""
        text = f"{self.markdown()}\n".encode()
        return [write_atomic(folder / "table.md", text), write_json(folder / "table.json", self.to_json())]


def methods_of(dataset: str) -> list[str]:
    """List the methods with recipes for a dataset.

    Raises:
        UsageError: when the dataset is not in `DATASETS`.
    """
    if dataset not in DATASETS:
        raise UsageError(f"there is no dataset {dataset!r} to reproduce; {suggest(dataset, DATASETS)}")
    return [name.removeprefix(f"{dataset}/") for name in recipe_names() if name.startswith(f"{dataset}/")]


def planned_methods(
    dataset: str, methods: Sequence[str] = (), assignments: Sequence[str] = (), second_stage: bool = True
) -> list[PlannedRow]:
    """Plan the rows of methods by name (default: all), each followed by the row of its second stage.

    Raises:
        UsageError: when the dataset or a method is unknown, or a method is named twice.
        ConfigError: when a setting is refused.
    """
    return planned_rows(recipes_of(dataset, methods), None, assignments, second_stage)


def recipes_of(dataset: str, methods: Sequence[str] = ()) -> list[str]:
    """Return the names of the recipes of methods (default: all).

    Raises:
        UsageError: when the dataset or a method is unknown, or a method is named twice.
    """
    known = methods_of(dataset)
    for name in methods:
        if name not in known:
            raise UsageError(f"there is no method {name!r} for {dataset}; {suggest(name, known)}")
    if len(set(methods)) < len(methods):
        raise UsageError(f"--methods takes each method once, got {','.join(methods)}")
    return [f"{dataset}/{name}" for name in methods or known]


def reproduce(
    dataset: str,
    plans: Sequence[PlannedRow],
    seeds: Sequence[int],
    features: Path,
    annotations: Path,
    workspace: Workspace,
    question: Question,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Reproduction:
    """Make a dataset's table, reusing or resuming whatever is already imported, trained or refined.

    `features` are published files to import, or a feature store.

    Raises:
        UsageError: when a path does not exist, the files match no layout or several, the annotations lack a subset, or
            the protocol is unknown.
        FormatError: when the files or the annotations cannot be read.
        DiskFullError: when the disk is full.
    """
    labels = read_annotations(annotations)
    for plan in plans:
        question_of(plan, question)
        labels.select(plan.recipe.evaluate.train_subset)
        labels.select(plan.recipe.evaluate.test_subset)
    store = store_in(features) or import_features(features, annotations, workspace, reporter=reporter).store
    comparison = compare(plans, seeds, annotations, workspace, store, dataset, device, question, reporter)
    return Reproduction(dataset, comparison, origin_of(plans, store, annotations, device))


def store_in(features: Path) -> Path | None:
    """Return a path if it is a feature store's; None if it holds other files."""
    return features if (features / INDEX).is_file() else None


def origin_of(plans: Sequence[PlannedRow], store: Path, annotations: Path, device: str) -> dict[str, Any]:
    """Return the origin of a table, as JSON types: programs, features, annotations and recipes."""
    opened, labels = FeatureStore.open(store), read_annotations(annotations)
    return {
        "versions": {
            "wtal": installed_version(),
            "python": platform.python_version(),
            **{name: _version(name) for name in _LIBRARIES},
        },
        "device": device,
        "features": {
            "store": store.name,
            "digest": digest(opened.identity, 64),
            "identity": opened.identity,
            "weights": weights_of(opened.identity),
            "videos": len(opened),
            "failures": opened.failures,
        },
        "annotations": {
            "name": annotations.name,
            "digest": content_digest(labels, 64),
            "videos": len(labels.videos),
            "classes": len(labels.classes),
        },
        "recipes": {plan.name: _recipe_digest(plan) for plan in plans},
    }


def _recipe_digest(plan: PlannedRow) -> str:
    """Return the digest of a row's recipe, every setting spelled out, including its second stage if the row has one."""
    plain = resolve_recipe(plan.recipe).plain()
    return digest({key: value for key, value in plain.items() if key != "refine" or plan.second_stage}, 64)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def _origin_lines(origin: dict[str, Any]) -> list[str]:
    """Return the origin as lines of text."""
    features, annotations = origin["features"], origin["annotations"]
    weights = ", ".join(f"{stream}: {learned}" for stream, learned in features["weights"].items())
    failed = f", {len(features['failures'])} failed" if features["failures"] else ""
    recipes = ", ".join(f"{name} {mark[:12]}" for name, mark in origin["recipes"].items())
    return [
        f"{', '.join(f'{name} {number}' for name, number in origin['versions'].items())}, on {origin['device']}",
        f"features {features['store']} ({features['digest'][:12]}): {features['videos']} videos{failed}; {weights}",
        f"annotations {annotations['name']} ({annotations['digest'][:12]}): {annotations['videos']} videos, "
        f"{annotations['classes']} classes",
        f"recipes: {recipes}",
    ]
