"""Many recipes and seeds -> one table: trained or resumed, refined, detected, evaluated, with the papers' rows."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from wtal.config import about, digest
from wtal.data.annotations import read_annotations
from wtal.data.assemble import read_ambiguous
from wtal.data.files import file_sha256
from wtal.data.store import FeatureStore
from wtal.errors import DiskFullError, UsageError, WtalError, lacks_memory
from wtal.eval import Evaluation
from wtal.eval.protocols import DEFAULT_PROTOCOL, find_protocol
from wtal.eval.thresholds import averages, tiou_key
from wtal.models.refinement.config import RescoreConfig
from wtal.models.training.log import read_log
from wtal.pipeline.activations import trained_head
from wtal.pipeline.comparison.ablation import Ablation, printed, printed_in, recipe_of
from wtal.pipeline.comparison.reported import Printed, is_of
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.train_members import localization_of, resolve_recipe, train_recipe
from wtal.pipeline.judging.evaluate import evaluate
from wtal.pipeline.judging.ground_truth import check_ambiguous
from wtal.pipeline.judging.sources import Question, source_of
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.refinement.refine import refine
from wtal.pipeline.refinement.trained import trained_rescorer, trained_student
from wtal.pipeline.runs import Run
from wtal.pipeline.stamps import TUNED, weights_of
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.workspace import Workspace

PAPERS = "papers"
"""Value in place of a protocol: evaluate each row by its own paper's, or by ActivityNet's if that is unknown."""
SECOND_STAGE = "+ second stage"
if TYPE_CHECKING:
    from wtal.models.cost import Cost

_SNIPPETS = 100
_NAMED = 3
"""Maximum number of runs that a remark names."""


@dataclass(frozen=True)
class PlannedRow:
    """Planned row: a recipe, a stage of its training, or its second stage, and the paper's figures for it."""

    name: str
    recipe: Recipe
    printed: Printed
    stage: int | None = None
    second_stage: bool = False

    def refined(self) -> "PlannedRow":
        """Return the row of the second stage, which no paper prints; it is evaluated like this row."""
        recipe = self.recipe.model_copy(update={"refine": self.recipe.refinement})
        return PlannedRow(f"{self.name} {SECOND_STAGE}", recipe, self.unprinted().printed, second_stage=True)

    def unprinted(self) -> "PlannedRow":
        """Return the row without the paper's figures, evaluated as before."""
        return replace(self, printed=replace(self.printed, mAP={}))


@dataclass(frozen=True)
class Conditions:
    """Conditions that two rows must share for their figures to be comparable."""

    features: str
    videos: str
    protocols: str


@dataclass(frozen=True)
class Row:
    """Outcome of a plan. `values`: "0.5" or "0.1:0.7" -> one fraction per seed. `seconds`: of training, per seed.

    `run_notes`: pairs of a run and a note on its evaluation. `like_printed`: whether figures are comparable with the
    printed ones; None if unknown or nothing is printed.
    """

    plan: PlannedRow
    runs: tuple[Path, ...] = ()
    conditions: Conditions | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    parameters: int = 0
    macs: int = 0
    seconds: float = 0.0
    failure: str = ""
    notes: tuple[str, ...] = ()
    run_notes: tuple[tuple[str, str], ...] = ()
    like_printed: bool | None = None

    def mean(self, key: str) -> float:
        """Return the mean over seeds."""
        return fmean(self.values[key])

    def spread(self, key: str) -> float:
        """Return the standard deviation over seeds; 0 for one seed."""
        return stdev(self.values[key]) if len(self.values[key]) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """The rows, their shared columns, and reasons why their figures are not comparable."""

    title: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def keys(self) -> list[str]:
        """Columns: thresholds, then averages; ours and the papers'."""
        keys = dict.fromkeys(key for row in self.rows for key in (*row.values, *row.plan.printed.mAP))
        return sorted(keys, key=lambda key: (":" in key, [float(part) for part in key.split(":")]))

    @property
    def differences(self) -> list[str]:
        """One sentence per condition that differs between rows; empty if all figures are comparable."""
        known = [row.conditions for row in self.rows if row.conditions is not None]
        sentences = []
        for what in ("features", "videos", "protocols"):
            values = sorted({getattr(conditions, what) for conditions in known})
            if len(values) > 1:
                sentences.append(f"not comparable: {what} differ: {'; '.join(values)}")
        return sentences

    @property
    def remarks(self) -> list[str]:
        """Notes for a reader of the figures: differences, evaluations, and comparability with the papers' rows."""
        runs: dict[str, list[str]] = {}
        for row in self.rows:
            for run, note in row.run_notes:
                runs.setdefault(note, []).append(f"{row.plan.name}, {run}")
        count = sum(len(row.runs) for row in self.rows)
        notes = dict.fromkeys(note for row in self.rows for note in row.notes)
        return [*self.differences, *(f"{_listed(own, count)}: {note}" for note, own in runs.items()), *notes]


def _listed(runs: Sequence[str], count: int) -> str:
    """Name runs of `count`: all of them, or the first few."""
    if len(runs) == count > _NAMED:
        return f"all {count} runs"
    more = f" and {len(runs) - _NAMED} more of {count} runs" if len(runs) > _NAMED else ""
    return f"{'; '.join(runs[:_NAMED])}{more}"


def planned_rows(
    recipes: Sequence[str],
    ablation: Ablation | None,
    assignments: Iterable[str] = (),
    second_stage: bool | None = None,
) -> list[PlannedRow]:
    """Plan a row for each recipe, by name or path; with an ablation, one for each of its rows on each recipe.

    With a `second_stage`, each row is followed by its refined one; None follows the recipe. A training stage has none.

    Raises:
        ConfigError: when a recipe, a row or a setting is refused.
    """
    assignments = tuple(assignments)
    plans = []
    for name in recipes:
        if ablation is None:
            recipe = _checked(load_recipe(name, assignments), f"recipe {name}")
            refined = load_recipe(name).refine is not None
            plans += _with_second_stage(PlannedRow(name, recipe, _printed(recipe)), second_stage, refined)
            continue
        for row in ablation.rows:
            title = row.name if len(recipes) == 1 else f"{name}: {row.name}"
            recipe = _checked(recipe_of(ablation, row, name, assignments), f"row {row.name}")
            plans += _with_second_stage(PlannedRow(title, recipe, printed_in(ablation, row), row.stage), second_stage)
    return plans


def _checked(recipe: Recipe, where: str) -> Recipe:
    """Return a recipe that can be trained; an error begins with `where`."""
    with about(where):
        resolve_recipe(recipe)
    return recipe


def _with_second_stage(plan: PlannedRow, wanted: bool | None, printed_refined: bool = False) -> list[PlannedRow]:
    """Return a row, and its second stage's row if `wanted`; None follows the recipe.

    A paper's figures for a recipe with a second stage of its own belong to that stage, not to the head before it.
    """
    refined = plan.recipe.refine is not None if wanted is None else wanted
    rows = [plan, plan.refined()] if refined and plan.stage is None else [plan]
    if not printed_refined:
        return rows
    return [plan.unprinted(), *(replace(row, printed=plan.printed) for row in rows[1:])]


def compare(
    plans: Sequence[PlannedRow],
    seeds: Sequence[int],
    annotations: Path,
    workspace: Workspace,
    store: Path | None = None,
    title: str = "",
    device: str = "cpu",
    question: Question | None = None,
    reporter: Reporter = SILENT,
) -> Comparison:
    """Make every row, reusing whatever is already trained, detected or half done. A failed row gives its reason.

    All are evaluated by the protocol of the `question`, by default ActivityNet's, each at its own recipe's thresholds.

    Raises:
        UsageError: when a store must be named, the protocol is unknown, or it does not use ranges.
        StoreError: when a store cannot be read.
        FormatError: when the annotations cannot be read.
        DiskFullError: when the disk is full.
    """
    questions = [question_of(plan, question or Question()) for plan in plans]
    read_annotations(annotations)
    if question is not None and question.ambiguous is not None:
        read_ambiguous(question.ambiguous)
    stores = [store or store_of(workspace, plan.recipe) for plan in plans]
    for folder in dict.fromkeys(stores):
        FeatureStore.open(folder)
    ranges = {key for plan in plans for key in plan.printed.mAP if ":" in key}
    rows = []
    with reporter.task("compare", len(plans), "row") as task:
        for plan, folder, own in zip(plans, stores, questions, strict=True):
            try:
                inputs = TrainInputs(folder, annotations)
                rows.append(_row(plan, seeds, inputs, workspace, own, ranges, device, reporter))
            except DiskFullError:  # not the row's fault, and the next one would fail too
                raise
            except (WtalError, MemoryError, RuntimeError) as error:
                if not (isinstance(error, WtalError) or lacks_memory(error)):
                    raise
                reporter.say(f"{plan.name} failed: {error}")
                rows.append(Row(plan, failure=" ".join(str(error).split()) or "not enough memory"))
            task.advance(note=plan.name)
    return Comparison(title, tuple(seeds), tuple(rows))


def question_of(plan: PlannedRow, question: Question) -> Question:
    """Return the question that a row is evaluated by: for `PAPERS`, its paper's, with ranges if the protocol uses them.

    Raises:
        UsageError: when the protocol is unknown, or it does not use ranges.
    """
    if question.protocol == PAPERS:
        protocol = plan.printed.rules or DEFAULT_PROTOCOL
        uses_ranges = find_protocol(protocol).ambiguous != "ignored"
        return replace(question, protocol=protocol, ambiguous=question.ambiguous if uses_ranges else None)
    check_ambiguous(question.protocol or DEFAULT_PROTOCOL, question.ambiguous)
    return question


def store_of(workspace: Workspace, recipe: Recipe) -> Path:
    """Return the workspace's only store, or its only one of the recipe's backbone.

    Raises:
        UsageError: when there is none, or more than one.
    """
    stores = sorted(path.parent for path in workspace.features.glob("*/index.json"))
    if len(stores) == 1:
        return stores[0]
    backbone = recipe.extract.backbone
    fitting = [path for path in stores if is_of(str(FeatureStore.open(path).identity.get("backbone")), backbone)]
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"{workspace.features} holds {len(stores)} stores, {len(fitting)} of backbone {backbone!r}; "
        "name one with --store"
    )


def _row(
    plan: PlannedRow,
    seeds: Sequence[int],
    inputs: TrainInputs,
    workspace: Workspace,
    question: Question,
    ranges: Collection[str],
    device: str,
    reporter: Reporter,
) -> Row:
    runs = train_recipe(inputs, plan.recipe, seeds, workspace, device, reporter)
    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    subset, tious = plan.recipe.evaluate.test_subset, plan.recipe.evaluate.tiou
    present = dataset.match(store.ids, [video.id for video in dataset.select(subset)])
    keys = frozenset(present.values())
    localize = localization_of(plan.recipe)
    if plan.second_stage:
        runs = [
            student
            for run, seed in zip(runs, seeds, strict=True)
            for student in refine([run], plan.recipe.refinement, workspace, (seed,), device, reporter, localize)
        ]
    own = [run.recipe.localize if run.refined else localize for run in runs]
    files = [
        detect(run, config, False, keys, device, reporter, plan.stage) for run, config in zip(runs, own, strict=True)
    ]
    question = replace(question, annotations=inputs.annotations, subset=subset, tious=tious)
    sources = [source_of(run, question, file) for run, file in zip(runs, files, strict=True)]
    evaluations = evaluate(sources, question).evaluations
    notes = []
    if any(run.tuned_with_segments for run in runs) or localize.tuned_with_segments:
        notes.append(f"{plan.name}: {TUNED}")
    values: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for key, value in _figures(evaluation, ranges).items():
            values.setdefault(key, []).append(value)
    parameters, macs = _cost(runs[0])
    videos = sorted(present)
    protocol = question.protocol or DEFAULT_PROTOCOL
    judged_on = store, len(videos), len(dataset.classes), protocol
    return Row(
        plan,
        tuple(run.folder for run in runs),
        Conditions(
            f"{inputs.store.name} ({digest(store.identity)})",
            f"{len(videos)} of {subset!r} ({digest(videos)})",
            f"{_protocol(question)}, tiou {tious}",
        ),
        values,
        parameters,
        macs,
        fmean(sum(_seconds(each.folder) for each in _trained(run)) for run in runs),
        notes=(*notes, *_random(store), *plan.printed.remarks(*judged_on)),
        run_notes=tuple(
            (run.folder.name, note)
            for run, evaluation in zip(runs, evaluations, strict=True)
            for note in evaluation.notes
        ),
        like_printed=plan.printed.comparable(*judged_on),
    )


def _protocol(question: Question) -> str:
    """Return the protocol's name, and the ambiguous ranges passed to it; reads their file."""
    name = question.protocol or DEFAULT_PROTOCOL
    if question.ambiguous is None:
        return name
    return f"{name} with {question.ambiguous.name} ({file_sha256(question.ambiguous)[:12]})"


def _figures(evaluation: Evaluation, ranges: Iterable[str]) -> dict[str, float]:
    """Return mAP at each threshold, averaged over all, and over each of the ranges that the thresholds cover."""
    by_tiou = evaluation.mAP
    figures = {tiou_key(tiou): value for tiou, value in by_tiou.items()}
    if len(by_tiou) > 1:
        tious = sorted(by_tiou)
        figures[f"{tiou_key(tious[0])}:{tiou_key(tious[-1])}"] = evaluation.average
    means = averages(by_tiou, ranges)
    return figures | {name: means[name] for name in ranges if name in means}


def _cost(run: Run) -> tuple[int, int]:
    """Count parameters and operations of the trained networks: state remembered from training can add cost at test."""
    counted = [_cost_of(each) for each in _trained(run)]
    return sum(each.parameters for each in counted), sum(each.macs for each in counted)


def _cost_of(run: Run) -> "Cost":
    from wtal.models.cost import cost, rescorer_cost, student_cost

    if not run.refined:
        return cost(trained_head(run).head, run.feature_dims, _SNIPPETS)
    if isinstance(run.recipe.refinement, RescoreConfig):
        return rescorer_cost(trained_rescorer(run).head, run.feature_dims, _SNIPPETS)
    return student_cost(trained_student(run).head, run.feature_dims, _SNIPPETS)


def _trained(run: Run) -> list[Run]:
    """Return the trained runs behind one run: its heads', and its student's if it is refined."""
    if run.refined:
        return [*_trained(run.teacher()), run]
    return run.members() or [run]


def _seconds(folder: Path) -> float:
    """Return the training time of one seed: the mean of the logged steps times their number."""
    lines = read_log(folder)
    return fmean(line["seconds"] for line in lines) * lines[-1]["step"] if lines else math.nan


def _random(store: FeatureStore) -> list[str]:
    named = any(name.startswith("random") for name in weights_of(store.identity).values())
    return [f"features of random weights: {store.path.name}"] if named else []


def _printed(recipe: Recipe) -> Printed:
    """Return the figures printed in a recipe's own paper."""
    row = recipe.reported
    return printed(recipe, row.mAP, row.source, row.features, row.backbone, row.rules, row.protocol)
