"""Check of a recipe without annotated times: labels are held out in folds and predicted by heads of the other folds.

Per fold and member, a head trains on the videos of the other folds, by the recipe and from one seed. A held-out video's
score for a class is that of its best detection, by the run's localization without rescaling per video, so that a head
that recognizes the class of a video but none of its moments gets no credit; several members are combined by the means
of their activations. The scores of each class are evaluated by `wtal.eval.label_check`. Annotated times are never used.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import Dataset, VideoRecord, content_digest
from wtal.data.detections import read_detections
from wtal.data.files import write_json
from wtal.data.locks import locked
from wtal.data.parsing.json_keys import read_values
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.errors import WtalError
from wtal.eval.agreement import agreement
from wtal.eval.label_check import LabelCheck, check_labels, stratified_folds
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import MemberActivations, comparable, mean_activations
from wtal.models.localization.localize import localize
from wtal.pipeline.activations import trained_head
from wtal.pipeline.detect import detect
from wtal.pipeline.ensembles.train_members import localization_of, resolve_recipe
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, train
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.models.head import Head
    from wtal.models.training.checkpoint import Trained

FOLDS = 3
"""Number of parts of the labels; each is held out once."""
_ENOUGH = 2
"""Minimum number of videos with a class, and without it: below, a fold could leave none of a kind for training."""
_SCORES = "scores.json"
_COMPARABLE = {"class_threshold": 0.0, "max_classes": 0, "range": "none", "score_range": "same"}
"""Localization for scores comparable between videos: every class is searched for, nothing is rescaled per video."""


@dataclass(frozen=True)
class _Known:
    """Videos whose labels are predicted: ids, store keys, `shown` (V, C) in {0, 1, NaN: unknown}, folds (V,)."""

    ids: list[str]
    keys: list[str]
    shown: NDArray[np.float64]
    folds: NDArray[np.intp]


def check(
    inputs: TrainInputs, recipe: Recipe, workspace: Workspace, device: str = "cpu", reporter: Reporter = SILENT
) -> LabelCheck:
    """Predict labels held out of training; the result of an earlier check is read instead if there is one.

    A killed check resumes. Its heads are removed at the end.

    Raises:
        UsageError: when the training subset does not exist.
        WtalError: when no video has both features and labels.
    """
    recipe = resolve_recipe(recipe)
    joined = bool(recipe.members())
    members = [_unselected(member) for member in recipe.members() or [recipe]]
    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    known = _known(store, dataset, recipe.evaluate.train_subset, inputs.only)
    files = {name: store.fingerprint(key) for name, key in zip(known.ids, known.keys, strict=True)}
    config = localization_of(recipe, "activations").model_copy(update=_COMPARABLE)
    identity = [[member.training_identity() for member in members], joined, config.plain()]
    name = digest([identity, inputs.store.name, store.identity, content_digest(dataset), files, FOLDS], 12)
    folder = workspace.checks / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(workspace.checks / f".{name}.lock"):
        scores = _read(folder / _SCORES, known.shown.shape)
        if scores is None:
            scores = _held_out_scores(inputs, known, members, config, joined, Workspace(folder), device, reporter)
            write_json(folder / _SCORES, scores.tolist())
        shutil.rmtree(Workspace(folder).runs, ignore_errors=True)
    return check_labels(dataset.classes, known.shown, scores, known.folds)


def check_runs(
    inputs: TrainInputs,
    recipe: Recipe,
    runs: Sequence[Run],
    workspace: Workspace,
    device: str = "cpu",
    reporter: Reporter = SILENT,
    searched: frozenset[str] | None = None,
) -> list[Run]:
    """Check the recipe of finished `runs`, report a line per class, and write the check into each `run.json`.

    A run's seeds (an ensemble's members, else all `runs`) detect in the `searched` videos, None meaning all those
    available for training; the agreement between seeds of one head is added to the check.

    Raises:
        UsageError: when the training subset does not exist.
        WtalError: when no video has both features and labels.
    """
    checked = check(inputs, recipe, workspace, device, reporter)
    only = inputs.only if searched is None else searched
    judged, checks, detections = [], [], {}
    for run in runs:
        by_head = defaultdict(list)
        for seed in run.members() or runs:
            if seed.folder not in detections:
                file = detect(seed, only=only, device=device, reporter=reporter)
                detections[seed.folder] = read_detections(file)
            by_head[seed.recipe.head_name].append(detections[seed.folder])
        checks.append(checked.with_agreement(agreement(list(by_head.values()), run.classes)))
        judged.append(run.with_label_check(checks[-1].to_json()))
        if run.detections_file().is_file():
            detect(judged[-1], only=only, device=device)  # again, with the verdicts
    for line in checks[0].sentences():
        reporter.say(f"label check: {line}")
    return judged


def _unselected(recipe: Recipe) -> Recipe:
    """Return the recipe without the subset for selecting its step, which would use annotated times."""
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"select_subset": ""})})


def _known(store: FeatureStore, dataset: Dataset, subset: str, only: frozenset[str] | None) -> _Known:
    records = {video.id: video for video in dataset.select(subset)}
    present = dataset.match([key for key in store.ids if only is None or key in only], records)
    keys = {name: key for name, key in sorted(present.items()) if store.grid(key).num_snippets > 0}
    folds = stratified_folds({name: records[name].labels for name in keys}, FOLDS)
    shown = np.array([_row(records[name], dataset.classes) for name in keys]).reshape(len(keys), len(dataset.classes))
    few = np.minimum((shown == 1).sum(axis=0), (shown == 0).sum(axis=0)) < _ENOUGH
    shown[:, few] = np.nan
    return _Known(list(keys), list(keys.values()), shown, np.array([folds[name] for name in keys], dtype=np.intp))


def _row(video: VideoRecord, classes: Sequence[str]) -> list[float]:
    known = {True: 1.0, False: 0.0, None: np.nan}
    return [known[video.shows(label)] for label in classes]


def _held_out_scores(
    inputs: TrainInputs,
    known: _Known,
    members: Sequence[Recipe],
    config: LocalizeConfig,
    joined: bool,
    workspace: Workspace,
    device: str,
    reporter: Reporter,
) -> NDArray[np.float64]:
    """Return (V, C): the score of each video for each class, by heads trained on the other folds."""
    store, scores = FeatureStore.open(inputs.store), np.zeros(known.shown.shape)
    if np.isnan(known.shown).all():
        return scores
    with reporter.task("check labels", FOLDS * len(members), "training") as task:
        for fold in range(FOLDS):
            held_out = np.flatnonzero(known.folds == fold)
            # Train only on files of known identity, so that none is mistaken for a held-out one with a similar name.
            training_inputs = replace(inputs, only=frozenset(known.keys) - {known.keys[i] for i in held_out})
            runs = []
            for member in members:
                runs += train(training_inputs, member, (0,), workspace, device)
                task.advance()
            heads = [trained_head(run) for run in runs]
            for trained in heads:
                trained.head.to(device)
            for i in held_out:
                scores[i] = _best_scores(store[known.keys[i]], runs, heads, config, joined, device)
    return scores


def _best_scores(
    video: VideoFeatures,
    runs: Sequence[Run],
    heads: "Sequence[Trained[Head]]",
    config: LocalizeConfig,
    joined: bool,
    device: str,
) -> NDArray[np.float64]:
    """Return (C,): the score of the best detection of each class in a video, 0 if there is none."""
    from wtal.models.inference import activate

    answers = [activate(own.head, own.scaler, video, device) for own in heads]
    answer = answers[0]
    if joined:
        alike = [comparable(own, run.recipe.localize) for own, run in zip(answers, runs, strict=True)]
        answer, _ = mean_activations([MemberActivations(own, video.grid, 1 / len(alike)) for own in alike])
    best = dict.fromkeys(runs[0].classes, 0.0)
    for detection in localize(answer, video.grid, runs[0].classes, config):
        best[detection.label] = max(best[detection.label], detection.score)
    return np.array(list(best.values()))


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return the scores of an earlier check.

    Raises:
        WtalError: when the file is damaged.
    """
    if not path.is_file():
        return None
    way_out = "delete it to check the labels again"
    scores = read_values(path, way_out, WtalError)
    rows = scores if isinstance(scores, list) and all(isinstance(row, list) for row in scores) else []
    numbers = [value for row in rows for value in row if isinstance(value, float)]
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows) or len(numbers) != math.prod(shape):
        raise WtalError(f"{path} is damaged (wanted {shape[0]} lists of {shape[1]} scores); {way_out}")
    return np.array(scores, dtype=np.float64)
