"""Many recipes and seeds -> one table: trained or resumed, detected, judged, beside the papers' rows."""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from wtal.config import digest
from wtal.data.ambiguous import read_ambiguous
from wtal.data.annotations import read_annotations
from wtal.data.dataset import match_ids
from wtal.data.files import file_sha256
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.eval.protocols import DEFAULT_PROTOCOL
from wtal.eval.thresholds import tiou_key
from wtal.pipeline.comparison.ablation import Ablation, printed, printed_in, recipe_of
from wtal.pipeline.comparison.reported import Printed, is_of
from wtal.pipeline.detect import detect, trained_head, weights_of
from wtal.pipeline.judging.ground_truth import check_ambiguous, evaluate_seed
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.train import TrainInputs, resolve_early, train
from wtal.pipeline.workspace import Workspace, read_run

_SNIPPETS = 100


@dataclass(frozen=True)
class Entry:
    """One row to be made: a recipe, or a stage of its training, and what a paper prints of it."""

    name: str
    recipe: Recipe
    printed: Printed
    stage: int | None = None


@dataclass(frozen=True)
class Rules:
    """How all rows are judged: a protocol, and the file of ambiguous ranges for those that look at them."""

    protocol: str = DEFAULT_PROTOCOL
    ambiguous: Path | None = None

    def describe(self) -> str:
        """The protocol, and which ranges it was given; reads their file."""
        if self.ambiguous is None:
            return self.protocol
        return f"{self.protocol} with {self.ambiguous.name} ({file_sha256(self.ambiguous)[:12]})"


@dataclass(frozen=True)
class Conditions:
    """What two rows must share for their figures to be compared."""

    features: str
    videos: str
    protocols: str


@dataclass(frozen=True)
class Row:
    """What came of an entry. `values`: "0.5" or "0.1:0.7" -> one fraction a seed. `seconds`: of training, per seed.

    `like_printed`: whether its figures may stand beside the printed ones; None where nobody can tell or nothing is.
    """

    entry: Entry
    runs: tuple[Path, ...] = ()
    conditions: Conditions | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    parameters: int = 0
    macs: int = 0
    seconds: float = 0.0
    failure: str = ""
    notes: tuple[str, ...] = ()
    like_printed: bool | None = None

    def mean(self, key: str) -> float:
        """Over seeds."""
        return fmean(self.values[key])

    def spread(self, key: str) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return stdev(self.values[key]) if len(self.values[key]) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """The rows, the columns that they share, and why figures in them must not be compared."""

    title: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def keys(self) -> list[str]:
        """Columns: thresholds, then averages; ours and the papers'."""
        keys = dict.fromkeys(key for row in self.rows for key in (*row.values, *row.entry.printed.mAP))
        return sorted(keys, key=lambda key: (":" in key, [float(part) for part in key.split(":")]))

    @property
    def differences(self) -> list[str]:
        """One sentence for each condition that rows do not share; none where all figures can be compared."""
        known = [row.conditions for row in self.rows if row.conditions is not None]
        found = []
        for what in ("features", "videos", "protocols"):
            values = sorted({getattr(conditions, what) for conditions in known})
            if len(values) > 1:
                found.append(f"not comparable: {what} differ: {'; '.join(values)}")
        return found

    @property
    def remarks(self) -> list[str]:
        """What a reader must know of the figures: differences, and how far the papers' rows can be compared."""
        notes = dict.fromkeys(note for row in self.rows for note in row.notes)
        return [*self.differences, *notes]


def entries(recipes: Sequence[str], ablation: Ablation | None, assignments: Iterable[str] = ()) -> list[Entry]:
    """Recipes by name or path -> an entry each; with an ablation, an entry for each of its rows on each recipe.

    Raises:
        ConfigError: when a recipe, a row or a setting is refused.
    """
    assignments = tuple(assignments)
    found = []
    for name in recipes:
        if ablation is None:
            recipe = load_recipe(name, assignments)
            found.append(Entry(name, recipe, _printed(recipe)))
            continue
        for row in ablation.rows:
            title = row.name if len(recipes) == 1 else f"{name}: {row.name}"
            recipe = recipe_of(ablation, row, name, assignments)
            found.append(Entry(title, recipe, printed_in(ablation, row), row.stage))
    for entry in found:
        resolve_early(entry.recipe)
    return found


def compare(
    wanted: Sequence[Entry],
    seeds: Sequence[int],
    annotations: Path,
    workspace: Workspace,
    store: Path | None = None,
    title: str = "",
    device: str = "cpu",
    rules: Rules | None = None,
    reporter: Reporter = SILENT,
) -> Comparison:
    """Make every row; what is trained, detected or half done already is taken up. A row that fails says why.

    All are judged by the same `rules`, by default ActivityNet's, each at its own recipe's thresholds.

    Raises:
        UsageError: when a store must be named, there is no such protocol, or it looks at no ranges.
        StoreError: when a store cannot be read.
        FormatError: when the annotations cannot be read.
    """
    rules = rules or Rules()
    check_ambiguous(rules.protocol, rules.ambiguous)
    read_annotations(annotations)
    if rules.ambiguous is not None:
        read_ambiguous(rules.ambiguous)
    places = [store or store_of(workspace, entry.recipe) for entry in wanted]
    for place in dict.fromkeys(places):
        FeatureStore.open(place)
    ranges = {key for entry in wanted for key in entry.printed.mAP if ":" in key}
    rows = []
    for entry, place in zip(wanted, places, strict=True):
        try:
            inputs = TrainInputs(place, annotations)
            rows.append(_row(entry, seeds, inputs, workspace, rules, ranges, device, reporter))
        except WtalError as error:
            reporter.say(f"{entry.name} failed: {error}")
            rows.append(Row(entry, failure=" ".join(str(error).split())))
    return Comparison(title, tuple(seeds), tuple(rows))


def store_of(workspace: Workspace, recipe: Recipe) -> Path:
    """The workspace's only store, or its only one of the recipe's backbone.

    Raises:
        UsageError: when there is none, or several.
    """
    stores = sorted(path.parent for path in workspace.features.glob("*/index.json"))
    if len(stores) == 1:
        return stores[0]
    wanted = recipe.extract.backbone
    fitting = [path for path in stores if is_of(str(FeatureStore.open(path).identity.get("backbone")), wanted)]
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"{workspace.features} holds {len(stores)} stores, {len(fitting)} of backbone {wanted!r}; name one with --store"
    )


def _row(
    entry: Entry,
    seeds: Sequence[int],
    inputs: TrainInputs,
    workspace: Workspace,
    rules: Rules,
    ranges: Collection[str],
    device: str,
    reporter: Reporter,
) -> Row:
    folders = train(inputs, entry.recipe, seeds, workspace, device, reporter)
    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    subset, tious = entry.recipe.evaluate.test_subset, entry.recipe.evaluate.tiou
    present = match_ids([video.id for video in dataset.select(subset)], store.ids)
    values: dict[str, list[float]] = {}
    said: list[str] = []
    for folder in folders:
        file = detect(folder, entry.recipe.localize, False, frozenset(present.values()), device, reporter, entry.stage)
        judged = evaluate_seed(folder, file, inputs.annotations, subset, tious, rules.protocol, rules.ambiguous)
        said += [f"{entry.name}, {folder.name}: {note}" for note in judged.notes]
        for key, value in _figures(judged.mAP, ranges).items():
            values.setdefault(key, []).append(value)
    parameters, macs = _cost(folders[0])
    videos = sorted(present)
    judged_on = store, len(videos), len(dataset.classes), rules.protocol
    return Row(
        entry,
        tuple(folders),
        Conditions(
            f"{inputs.store.name} ({digest(store.identity)})",
            f"{len(videos)} of {subset!r} ({digest(videos)})",
            f"{rules.describe()}, tiou {tious}",
        ),
        values,
        parameters,
        macs,
        fmean(_seconds(folder) for folder in folders),
        notes=(*said, *_random(store), *entry.printed.remarks(*judged_on)),
        like_printed=entry.printed.comparable(*judged_on),
    )


def _figures(by_tiou: dict[float, float], ranges: Iterable[str]) -> dict[str, float]:
    """Figures: mAP at each threshold, over all, and over each of the ranges that the thresholds cover."""
    found = {tiou_key(tiou): value for tiou, value in by_tiou.items()}
    if len(by_tiou) > 1:
        tious = sorted(by_tiou)
        found[f"{tiou_key(tious[0])}:{tiou_key(tious[-1])}"] = fmean(by_tiou.values())
    for key in ranges:
        low, _, high = key.partition(":")
        if low in found and high in found:
            inside = [value for tiou, value in by_tiou.items() if float(low) - 1e-9 <= tiou <= float(high) + 1e-9]
            found[key] = fmean(inside)
    return found


def _cost(folder: Path) -> tuple[int, int]:
    """Of the trained head: what it remembers of training may cost at test."""
    from wtal.models.cost import cost

    run = read_run(folder)
    head = trained_head(folder, run, Recipe.parse(run["recipe"])).head
    made = cost(head, run["feature_dims"], _SNIPPETS)
    return made.parameters, made.macs


def _seconds(folder: Path) -> float:
    """Training time of one seed: the mean of the logged steps times their number."""
    path = folder / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return fmean(line["seconds"] for line in lines) * lines[-1]["step"] if lines else math.nan


def _random(store: FeatureStore) -> list[str]:
    named = any(name.startswith("random") for name in weights_of(store.identity).values())
    return [f"features of random weights: {store.path.name}"] if named else []


def _printed(recipe: Recipe) -> Printed:
    """What a recipe's own paper prints."""
    one = recipe.reported
    return printed(recipe, one.mAP, one.source, one.features, one.backbone, one.rules, one.protocol)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, fractions for ours and percent for what is reported."""
    return {
        "title": comparison.title,
        "seeds": list(comparison.seeds),
        "comparable": not comparison.differences,
        "remarks": comparison.remarks,
        "rows": [_row_json(row) for row in comparison.rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    if row.failure:
        return {"name": row.entry.name, "failure": row.failure}
    return {
        "name": row.entry.name,
        "head": row.entry.recipe.head_name,
        "stage": row.entry.stage,
        "runs": [str(run) for run in row.runs],
        "conditions": vars(row.conditions),
        "mAP": {
            key: {"mean": row.mean(key), "spread": row.spread(key), "seeds": row.values[key]} for key in row.values
        },
        "parameters": row.parameters,
        "macs": row.macs,
        "train_seconds": row.seconds,
        "reported": dict(row.entry.printed.mAP),
        "reported_comparable": row.like_printed,
    }
