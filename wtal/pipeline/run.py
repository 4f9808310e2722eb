"""The whole chain: videos and labels in; features, a trained head, detections, figures and a submission out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wtal.data.annotations import coverage, read_annotations, write_annotations
from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.files import write_atomic
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.eval import Evaluation
from wtal.pipeline.detect import detect
from wtal.pipeline.evaluate import evaluate_run, over_seeds
from wtal.pipeline.extract import ExtractResult, Machine, extract
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.submit import submit
from wtal.pipeline.train import TrainInputs, file_digest, resolve_early, train
from wtal.pipeline.workspace import Workspace


@dataclass(frozen=True)
class RunResult:
    """Where everything is; `evaluations` has one entry a seed, none where there is no ground truth."""

    extracted: ExtractResult
    runs: list[Path]
    detections: list[Path]
    tables: list[Path]
    evaluations: list[Evaluation] = field(default_factory=list)
    submission: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "mAP": over_seeds(self.evaluations) if self.evaluations else {},
            "detections": [str(path) for path in self.detections],
            "tables": [str(path) for path in self.tables],
            "runs": [str(path) for path in self.runs],
            "store": str(self.extracted.store),
            "failures": self.extracted.failures,
            "submission": None if self.submission is None else str(self.submission),
        }


@dataclass(frozen=True)
class RunOptions:
    """What a whole run may be told beside its recipe."""

    seeds: tuple[int, ...] = (0,)
    weights: tuple[str, ...] = ()
    use_labels: bool = False
    challenge: str = ""
    machine: Machine = field(default_factory=Machine)


def run(
    videos: Sequence[Path],
    annotations: Path,
    recipe: Recipe,
    workspace: Workspace,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> RunResult:
    """Extract, train on the labelled videos, detect in every video, evaluate where there is ground truth.

    Raises:
        UsageError: when nothing can be trained on.
    """
    recipe = resolve_early(recipe)
    dataset = read_annotations(annotations)
    recipe = fit_subsets(recipe, dataset, reporter)
    kept = _keep(annotations, dataset, workspace)
    extracted = extract(videos, recipe.extract, workspace, options.weights, machine=options.machine, reporter=reporter)
    for note in (*dataset.notes, *coverage(dataset, FeatureStore.open(extracted.store).ids)):
        reporter.say(note)
    device = options.machine.device
    inputs = TrainInputs(extracted.store, kept)
    runs = train(inputs, recipe, options.seeds, workspace, device, reporter)
    detections = [detect(folder, (), options.use_labels, device, reporter) for folder in runs]
    tables = [path.with_suffix(".csv") for path in detections]
    truth = _has_truth(dataset, recipe.evaluate.test_subset)
    evaluations = [one for folder in runs for one in evaluate_run(folder, None, None, None)] if truth else []
    result = RunResult(extracted, runs, detections, tables, evaluations)
    if not options.challenge:
        return result
    return replace(result, submission=submit(runs[0], options.challenge, workspace).path)


def fit_subsets(recipe: Recipe, dataset: Dataset, reporter: Reporter = SILENT) -> Recipe:
    """The recipe with subsets that the annotations have: a plain list of labels has one, which trains.

    Raises:
        UsageError: when the training subset is missing, or has no label.
    """
    rules = recipe.evaluate
    if not any(video.labels for video in dataset.select(rules.train_subset)):
        raise UsageError(f"no video of subset {rules.train_subset!r} has a label; name another with --train-subset")
    if rules.test_subset.partition("@")[0] in ("*", *dataset.subsets):
        return recipe
    reporter.say(
        f"there is no subset {rules.test_subset!r} to report on; figures, if any, are of {rules.train_subset!r}"
    )
    return recipe.model_copy(update={"evaluate": rules.model_copy(update={"test_subset": rules.train_subset})})


def _keep(annotations: Path, dataset: Dataset, workspace: Workspace) -> Path:
    """A copy of the annotations in the workspace, so that later commands find them; a folder becomes one file."""
    name = annotations.resolve().stem
    target = workspace.annotations / f"{name}-{file_digest(annotations)}{annotations.suffix or '.json'}"
    if target.exists() or annotations.resolve().parent == workspace.annotations.resolve():
        return target if target.exists() else annotations
    if annotations.is_dir():
        return write_annotations(dataset, target)
    return write_atomic(target, annotations.read_bytes())


def _has_truth(dataset: Dataset, subset: str) -> bool:
    records: list[VideoRecord] = dataset.select(subset)
    return any(video.annotations for video in records)
