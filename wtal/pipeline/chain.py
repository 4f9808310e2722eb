"""The whole chain: from videos and labels to features, a trained head, detections, evaluation and a submission."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wtal.data.annotations import coverage, read_annotations, write_annotations
from wtal.data.dataset import Dataset, content_digest
from wtal.data.files import write_atomic
from wtal.data.names import nearest
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.checks.label_advice import advise
from wtal.pipeline.checks.label_check import check_runs
from wtal.pipeline.checks.lengths import length_notes
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.train_members import localization_of, resolve_recipe, train_recipe
from wtal.pipeline.exchange.submit import submit
from wtal.pipeline.extraction.extract import ExtractResult, extract
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.videos import find_videos
from wtal.pipeline.judging.evaluate import DetectionJudgement, evaluate, over_seeds
from wtal.pipeline.judging.sources import Question, source_of
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import EvaluateConfig, Recipe
from wtal.pipeline.refinement.refine import refine
from wtal.pipeline.review.teach import taught
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.viewing.gather import gather
from wtal.pipeline.viewing.write_report import write_report
from wtal.pipeline.workspace import Workspace


@dataclass(frozen=True)
class RunResult:
    """Paths of all outputs; `judgement` has one evaluation per seed, or is None without ground truth."""

    extracted: ExtractResult
    runs: list[Run]
    detections: list[Path]
    tables: list[Path]
    judgement: DetectionJudgement | None = None
    submission: Path | None = None
    report: Path | None = None

    @property
    def tuned_with_segments(self) -> bool:
        """True if annotated times chose the step or the localization of any run."""
        return any(run.tuned_with_segments for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `--json`."""
        tuned = {"tuned_with_segments": True} if self.tuned_with_segments else {}
        return {
            "mAP": over_seeds(self.judgement.evaluations) if self.judgement else {},
            "detections": [str(path) for path in self.detections],
            "tables": [str(path) for path in self.tables],
            "runs": [str(run.folder) for run in self.runs],
            "store": str(self.extracted.store),
            "failures": self.extracted.failures,
            "oddities": self.extracted.oddities,
            "label_check": self.runs[0].label_check,
            "submission": None if self.submission is None else str(self.submission),
            "report": None if self.report is None else str(self.report),
            **tuned,
        }


@dataclass(frozen=True)
class RunOptions:
    """Options of the whole chain, besides the recipe."""

    seeds: tuple[int, ...] = (0,)
    weights: tuple[str, ...] = ()
    use_labels: bool = False
    challenge: str = ""
    check: bool = False
    report: bool = True
    verdicts: bool = True
    machine: Machine = field(default_factory=Machine)


def run(
    videos: Sequence[Path],
    annotations: Path,
    recipe: Recipe,
    workspace: Workspace,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> RunResult:
    """Extract, train on the labelled videos, detect in every video, evaluate if there is ground truth.

    Labels come from the annotations and, by default, also from the workspace's verdicts.

    Raises:
        UsageError: when there is nothing to train on.
    """
    recipe = resolve_recipe(recipe)
    dataset = read_annotations(annotations)
    recipe = fit_subsets(recipe, dataset, reporter)
    at_hand = [video.id for video in find_videos(videos)]
    lacking = _check_labels(dataset, recipe.evaluate.train_subset, at_hand, reporter)
    labels = _copy(annotations, dataset, workspace)
    if options.verdicts:
        labels = taught(labels, recipe.evaluate.train_subset, at_hand, workspace, reporter)
        dataset = replace(read_annotations(labels), notes=dataset.notes)
    extracted = extract(videos, recipe.extract, workspace, options.weights, machine=options.machine, reporter=reporter)
    # The store may hold other collections too, and another file under the id of a video that failed here.
    only = frozenset(video.id for video in extracted.videos) - extracted.failures.keys()
    apart = length_notes(dataset, FeatureStore.open(extracted.store), only)
    for note in (*dataset.notes, *coverage(dataset, only), *apart):
        if note not in lacking:
            reporter.say(note)
    # A failed video must not train on the features of a video with a similar name.
    inputs = TrainInputs(extracted.store, labels, frozenset(dataset.match(at_hand).values()) & only)
    runs = _train(inputs, recipe, workspace, options, reporter, only)
    detections = [
        detect(run, _localization(run, recipe), options.use_labels, only, options.machine.device, reporter)
        for run in runs
    ]
    tables = [path.with_suffix(".csv") for path in detections]
    result = RunResult(extracted, runs, detections, tables, _judge(runs, detections, dataset, labels, recipe.evaluate))
    if options.report:
        result = replace(result, report=_report(detections[0], extracted, reporter))
    if options.challenge:
        result = replace(result, submission=_submit(result, labels, recipe.evaluate, workspace, options, reporter))
    return result


def _check_labels(dataset: Dataset, subset: str, at_hand: Sequence[str], reporter: Reporter) -> tuple[str, ...]:
    """Say what cannot be learned from the labels of the videos at hand; return the notes on what is missing.

    Raises:
        UsageError: when no labelled video is at hand.
    """
    _require_files(dataset, subset, at_hand)
    lacking = coverage(dataset, at_hand)
    for line in (*lacking, *(f"labels: {line}" for line in advise(dataset, subset, at_hand))):
        reporter.say(line)
    return lacking


def _train(
    inputs: TrainInputs,
    recipe: Recipe,
    workspace: Workspace,
    options: RunOptions,
    reporter: Reporter,
    only: frozenset[str],
) -> list[Run]:
    """Train a run per seed, check what its labels teach, and add the second stage, as the recipe and options ask."""
    device = options.machine.device
    runs = train_recipe(inputs, recipe, options.seeds, workspace, device, reporter, only)
    if options.check:
        runs = check_runs(inputs, recipe, runs, workspace, device, reporter, only)
    if recipe.refine is None:
        return runs
    localize = localization_of(recipe)
    return [
        student
        for run, seed in zip(runs, options.seeds, strict=True)
        for student in refine([run], recipe.refine, workspace, (seed,), device, reporter, localize)
    ]


def _localization(run: Run, recipe: Recipe) -> LocalizeConfig:
    """Return the localization of the recipe, or a refined run's own."""
    return run.recipe.localize if run.refined else localization_of(recipe)


def _judge(
    runs: Sequence[Run], detections: Sequence[Path], dataset: Dataset, labels: Path, rules: EvaluateConfig
) -> DetectionJudgement | None:
    """Evaluate the detections of each seed, if there is ground truth."""
    if not has_truth(dataset, rules.test_subset):
        return None
    question = Question(labels, rules.test_subset, rules.tiou)
    return evaluate([source_of(run, question, file) for run, file in zip(runs, detections, strict=True)], question)


def _submit(
    result: RunResult,
    labels: Path,
    rules: EvaluateConfig,
    workspace: Workspace,
    options: RunOptions,
    reporter: Reporter,
) -> Path:
    """Write the challenge file of the first seed's detections."""
    submission = submit(
        result.runs[0],
        options.challenge,
        workspace,
        annotations=labels,
        subset=rules.test_subset,
        detections=result.detections[0],
    )
    for line in submission.warnings:
        reporter.say(line)
    return submission.path


def _report(detections: Path, extracted: ExtractResult, reporter: Reporter) -> Path:
    """Write the page of the first seed's detections; copies for browsers are left to `wtal report`."""
    collection = gather(detections, files={video.id: video.path for video in extracted.videos})
    own = replace(collection, failures=extracted.failures)
    report = write_report(own, proxies="never", reporter=reporter)
    for note in report.notes:
        reporter.say(f"page: {note}")
    return report.page


def _require_files(dataset: Dataset, subset: str, at_hand: Sequence[str]) -> None:
    """Refuse, before hours of extraction, files that match no labelled video.

    Raises:
        UsageError: naming a video and the most similar file name.
    """
    labelled = [video.id for video in dataset.select(subset) if video.labels]
    if labelled and not dataset.match(at_hand, labelled):
        near = nearest(labelled[0], at_hand)
        hint = f", closest to file {near!r}" if near else f", and the first file is {at_hand[0]!r}"
        raise UsageError(
            f"none of the {len(labelled)} labelled videos of subset {subset!r} is among the {len(at_hand)} files: the "
            f"first is {labelled[0]!r}{hint}; give files and videos the same names"
        )


def fit_subsets(recipe: Recipe, dataset: Dataset, reporter: Reporter = SILENT) -> Recipe:
    """Fit a recipe's subsets to those of the annotations: a plain list of labels has one, used for training.

    Raises:
        UsageError: when a requested subset is missing, or the training subset has no label.
    """
    rules = recipe.evaluate
    if not any(video.labels for video in dataset.select(rules.train_subset)):
        raise UsageError(
            f"no video of subset {rules.train_subset!r} has a label; label some, or choose another subset with "
            "--train-subset"
        )
    asked_for = rules.test_subset != EvaluateConfig().test_subset
    if asked_for or rules.test_subset in dataset.subsets:
        dataset.select(rules.test_subset)
        return recipe
    reporter.say(f"there is no subset {rules.test_subset!r}, so results will be reported on {rules.train_subset!r}")
    reported = rules.model_copy(update={"test_subset": rules.train_subset})
    return recipe.model_copy(update={"evaluate": reported})


def _copy(annotations: Path, dataset: Dataset, workspace: Workspace) -> Path:
    """Copy the annotations into the workspace, where later commands find them; a folder becomes one file."""
    if annotations.resolve().parent == workspace.annotations.resolve():
        return annotations
    suffix = ".json" if annotations.is_dir() else annotations.suffix
    target = workspace.annotations / f"{annotations.resolve().stem}-{content_digest(dataset)}{suffix}"
    if target.exists():
        return target
    if annotations.is_dir():
        return write_annotations(dataset, target)
    return write_atomic(target, annotations.read_bytes())


def has_truth(dataset: Dataset, subset: str) -> bool:
    """Return whether any video of a subset has segments to evaluate against."""
    return any(video.annotations for video in dataset.select(subset))
