"""Features and video-level labels -> runs, one per seed. Annotated times go no further than this module."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import about, digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord, content_digest
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, UsageError, WtalError
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious
from wtal.models.heads import HEADS, create_head
from wtal.models.localization.config import FUSED, UNION
from wtal.models.localization.localize import localize_many
from wtal.pipeline.checks.label_advice import advise
from wtal.pipeline.checks.lengths import length_notes
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe, run_name
from wtal.pipeline.runs import UNTRAINED, Run, is_finished
from wtal.pipeline.workspace import Workspace, relative
from wtal.refusals import written
from wtal.registry import suggest

if TYPE_CHECKING:
    from wtal.models.head import Head
    from wtal.models.training.inputs import LabelledVideo, NegativeVideo, Scaler

_SELECTION_TIOU = 0.5


@dataclass(frozen=True)
class TrainInputs:
    """Sources of features and labels; `only` restricts the store to some of its videos."""

    store: Path
    annotations: Path
    only: frozenset[str] | None = None


def train(
    inputs: TrainInputs,
    recipe: Recipe,
    seeds: Sequence[int],
    workspace: Workspace,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> list[Run]:
    """Train one head per seed, resuming partial runs and reusing finished ones; return the seeds' runs.

    Raises:
        UsageError: when a subset does not exist, the selection subset contains reported videos, or the features lack
            the stream that is localized.
        WtalError: when no video has both features and labels.
    """
    recipe = resolve_early(recipe)
    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    _require_stream(recipe.localize.streams, store.dims)
    keys = [key for key in store.ids if inputs.only is None or key in inputs.only]
    videos, negatives = training_videos(store, dataset, recipe, keys, reporter)
    chosen = _selection_videos(dataset, recipe)
    if not videos:
        raise WtalError(f"no video of {recipe.evaluate.train_subset!r} has both labels and features in {inputs.store}")
    data = _data_digest(
        store,
        dataset,
        keys,
        {video.id for video in videos} | {video.id for video in negatives} | {video.id for video in chosen},
    )
    shown = np.sum([video.labels for video in videos], axis=0)
    untrained = [label for label, count in zip(dataset.classes, shown, strict=True) if not count]
    root = workspace.runs / run_name(recipe, inputs.store.name, data)
    folders = [root / f"seed-{seed}" for seed in seeds]
    before = {folder: Run.open(folder) for folder in folders if is_finished(folder)}
    for seed, folder in zip(seeds, folders, strict=True):
        if is_finished(folder):
            reporter.say(f"{folder} is already trained")
            continue
        counts = dataset.label_counts(recipe.evaluate.train_subset)
        labels: dict[str, Any] = {"labels": {label: asdict(count) for label, count in counts.items()}}
        labels |= {UNTRAINED: untrained} if untrained else {}
        run = Run.write(folder, describe(inputs, store, dataset, recipe, seed, folder) | labels)
        _train_one(run, store, dataset, videos, negatives, chosen, recipe, seed, device, reporter)
    return [before.get(folder) or Run.open(folder) for folder in folders]


def _require_stream(name: str, present: Collection[str]) -> None:
    """Refuse, before training, a stream to localize that no head can have on these features."""
    choices = (*present, FUSED, UNION)
    if name not in choices:
        raise UsageError(f"localize.streams: the features have no stream {name!r}; {suggest(name, choices)}")


def obstacles(inputs: TrainInputs, recipe: Recipe) -> list[str]:
    """Return a line for each reason why the labels of the training videos at hand cannot teach a class.

    Raises:
        UsageError: when the training subset does not exist.
    """
    keys = [key for key in FeatureStore.open(inputs.store).ids if inputs.only is None or key in inputs.only]
    return advise(read_annotations(inputs.annotations), recipe.evaluate.train_subset, keys)


def lengths(inputs: TrainInputs) -> tuple[str, ...]:
    """Return sentences on annotated lengths that contradict those of the features."""
    return length_notes(read_annotations(inputs.annotations), FeatureStore.open(inputs.store), inputs.only)


def resolve_early(recipe: Recipe) -> Recipe:
    """Spell out every setting of a recipe's head; raise now any error due after hours.

    Raises:
        UsageError: when the list of thresholds is refused.
        ConfigError: when the head is unknown, or a setting of it is refused.
    """
    parse_tious(recipe.evaluate.tiou)
    if not isinstance(recipe.head.get("authors", False), bool):
        raise ConfigError(f"head.authors: wanted true or false, got {written(recipe.head['authors'])}")
    name = recipe.head_name
    with about("head.name"):
        leaf = HEADS.load(name)
    settings = leaf.Config.parse(recipe.head_settings, f"head {name}", "head")
    authors = {"authors": True} if recipe.head_authors else {}
    for number, member in enumerate(recipe.members()):
        with about(f"ensemble.members[{number}]"):
            resolve_early(member)
    return recipe.model_copy(update={"head": {"name": name, **authors, **settings.plain()}})


def make_head(recipe: Recipe, num_classes: int, feature_dims: Mapping[str, int]) -> "Head":
    """Create a recipe's head, freshly initialized."""
    settings = recipe.head_settings
    return create_head(recipe.head_name, num_classes, feature_dims, authors=recipe.head_authors, **settings)


def _data_digest(store: FeatureStore, dataset: Dataset, keys: Sequence[str], used: set[str]) -> str:
    """Return a digest of the training data: the annotations, and the source file of every video used.

    Adding, replacing or relabelling a video makes another run; nothing is silently reused.
    """
    files = {name: store.fingerprint(key) for name, key in dataset.match(keys, sorted(used)).items()}
    return digest([content_digest(dataset), files], 12)


def training_videos(
    store: FeatureStore, dataset: Dataset, recipe: Recipe, keys: Sequence[str], reporter: Reporter = SILENT
) -> "tuple[list[LabelledVideo], list[NegativeVideo]]":
    """Return the labelled and the negative videos of the training subset that have features among `keys` of the store.

    Negatives are videos without labels: known to show no class, or known to lack those in `absent`; a head with
    `authors` trains without them, as in its authors' code. Report the number of training videos, and why others are
    left out.
    """
    from wtal.models.training.inputs import LabelledVideo, NegativeVideo

    subset = recipe.evaluate.train_subset
    records = {video.id: video for video in dataset.select(subset)}
    present = dataset.match(keys, records)
    usable = {name: key for name, key in sorted(present.items()) if store.grid(key).num_snippets > 0}
    labelled = [
        LabelledVideo(name, _loader(store, key), _shown(records[name], dataset.classes, True))
        for name, key in usable.items()
        if records[name].labels
    ]
    without = [name for name in usable if not records[name].labels]
    negatives = [
        NegativeVideo(name, _loader(store, usable[name]), _shown(records[name], dataset.classes, False))
        for name in without
        if recipe.train.negatives and not recipe.head_authors
    ]
    if len(labelled) < len(records):
        trained = len(labelled) + len(negatives)
        partly = sum(bool(records[name].absent) for name in without)
        negative = {"known negatives": len(without) - partly, "known to lack some classes": partly}
        left_out = {
            "without features": len(records) - len(present),
            "shorter than a snippet": len(present) - len(usable),
            **({} if negatives else {"without labels": len(without)}),
        }
        reporter.say(
            f"training on {trained} of {len(records)} {subset} videos: "
            f"{_counted({'labelled': len(labelled), **(negative if negatives else {})})}"
            + (f"; left out: {_counted(left_out)}" if trained < len(records) else "")
        )
    return labelled, negatives


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none"


def _shown(video: VideoRecord, classes: Sequence[str], value: bool) -> NDArray[np.float32]:
    """Return (C,): 1 for each class that the video is known to show, or with `value` False, known to lack."""
    return np.array([video.shows(label) is value for label in classes], dtype=np.float32)


def _loader(store: FeatureStore, key: str) -> Callable[[], dict[str, Any]]:
    return lambda: store[key].streams


def _selection_videos(dataset: Dataset, recipe: Recipe) -> list[VideoRecord]:
    if not recipe.evaluate.select_subset:
        return []
    chosen = dataset.select(recipe.evaluate.select_subset)
    for name in ("train_subset", "test_subset"):
        subset = getattr(recipe.evaluate, name)
        if shared := shared_videos(dataset, chosen, subset):
            raise UsageError(
                f"{len(shared)} videos of select_subset {recipe.evaluate.select_subset!r} are also in {name} "
                f"{subset!r}; hold out a fold: train_subset='training@!0/4', select_subset='training@0/4'"
            )
    return chosen


def shared_videos(dataset: Dataset, videos: Sequence[VideoRecord], subset: str) -> set[str]:
    """Return the ids of those `videos` that are also in a subset; empty if the annotations lack the subset."""
    exists = {part.partition("@")[0].strip() for part in subset.split(",")} <= {"*", *dataset.subsets}
    return {video.id for video in videos} & {video.id for video in dataset.select(subset)} if exists else set()


def describe(
    inputs: TrainInputs, store: FeatureStore, dataset: Dataset, recipe: Recipe, seed: int, folder: Path
) -> dict[str, Any]:
    """Return the content of a seed's `run.json`."""
    return {
        "format": 1,
        "recipe": recipe.plain(),
        "seed": seed,
        "store": relative(inputs.store, folder),
        "annotations": relative(inputs.annotations, folder),
        "features": store.identity,
        "feature_dims": store.dims,
        "classes": list(dataset.classes),
        "tuned_with_segments": bool(recipe.evaluate.select_subset) or recipe.localize.tuned_with_segments,
    }


def _train_one(
    run: Run,
    store: FeatureStore,
    dataset: Dataset,
    videos: "list[LabelledVideo]",
    negatives: "list[NegativeVideo]",
    chosen: list[VideoRecord],
    recipe: Recipe,
    seed: int,
    device: str,
    reporter: Reporter,
) -> None:
    import torch

    from wtal.models.training.trainer import Trainer

    torch.manual_seed(seed)
    head = make_head(recipe, len(dataset.classes), store.dims)
    select = _selector(store, dataset, chosen, recipe, device) if chosen else None
    trainer = Trainer(head, videos, recipe.train, seed, run.folder, device, select, negatives)
    with reporter.task(f"train {recipe.head_name} seed {seed}", trainer.steps, "step") as task:
        done = 0

        def on_step(progress: Any) -> None:
            nonlocal done
            score = "" if progress.score is None else f" score {progress.score:.3f}"
            task.advance(progress.step - done, f"loss {progress.loss:.4f}{score}")
            done = progress.step

        trained = trainer.run(on_step)
    run.finish({"step": trained.step, "selection_score": trained.score})


def _selector(
    store: FeatureStore, dataset: Dataset, chosen: list[VideoRecord], recipe: Recipe, device: str
) -> "Callable[[Head, Scaler], float]":
    """Return a function that computes mAP@0.5 on the selection videos; the head sees only their features."""
    from wtal.models.inference import activate

    present = dataset.match(store.ids, [video.id for video in chosen])
    if not present:
        raise WtalError(f"no video of select_subset {recipe.evaluate.select_subset!r} has features")

    def score(head: "Head", scaler: "Scaler") -> float:
        videos = ((activate(head, scaler, store[key], device), store.grid(key)) for key in present.values())
        detections = dict(zip(present, localize_many(videos, dataset.classes, recipe.localize), strict=True))
        truth = {video.id: video.annotations for video in chosen if video.id in present}
        return evaluate_detections(truth, detections, [_SELECTION_TIOU]).average

    return score
