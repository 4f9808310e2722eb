"""A run -> detections. Activations are kept, so localization can be done again in seconds and without the head."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.annotations import read_annotations
from wtal.data.dataset import match_ids
from wtal.data.detections import write_detections
from wtal.data.grid import SnippetGrid
from wtal.data.locks import locked
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize_many
from wtal.models.localization.signals import Activations
from wtal.pipeline.ensemble_run import ensemble_by, fused, open_means, pooled_ids, refuse_unfit
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe, training_identity, with_assignments
from wtal.pipeline.train import make_head, resolve
from wtal.pipeline.workspace import read_run

if TYPE_CHECKING:
    from wtal.models.training.checkpoint import Trained

Scores = NDArray[np.float32]


def detect(
    folder: Path,
    config: LocalizeConfig | None = None,
    use_labels: bool = False,
    only: frozenset[str] | None = None,
    device: str = "cpu",
    reporter: Reporter = SILENT,
    stage: int | None = None,
) -> Path:
    """Detect in every video of the run's store, or in `only` some; returns the detections' JSON, a CSV beside it.

    With a `config` that is not the run's own, or with `use_labels`, the files carry a digest in their name, so that
    the run's own detections stay. `use_labels` narrows each labelled video to its own classes. `stage` takes the
    parameters at the end of one of the stages that the head was trained in.

    Raises:
        WtalError: when the run is not finished or its store has gone.
        UsageError: when the run has kept no such stage, or the head has no such stream, or an ensemble cannot be
            localized like that.
    """
    run = read_run(folder)
    own = Recipe.parse(run["recipe"], str(folder / "run.json")).localize
    config = config or own
    if ensemble_by(run) and stage is not None:
        raise UsageError(f"{folder} is an ensemble, it has no stages")
    if ensemble_by(run) == "detections":
        allowed = _labels(folder, run, pooled_ids(folder, run)) if use_labels else {}
        found = fused(folder, run, own, config, allowed)
        found = {key: one for key, one in found.items() if only is None or key in only}
    else:
        store = open_means(folder, run) if ensemble_by(run) else FeatureStore.open(resolve(folder, run["store"]))
        keys = [key for key in store.ids if only is None or key in only]
        allowed = _labels(folder, run, store.ids) if use_labels else {}
        activations = activations_of(folder, run, store, keys, device, reporter, stage)
        found = localize_all(activations, keys, run["classes"], config, allowed)
    path = detections_of(folder, None if config == own else config, use_labels, stage)
    kept = {} if stage is None else {"stage": stage}
    made = {"localize": config.plain(), "use_labels": use_labels, **kept, **stamps(run)}
    made["tuned_with_segments"] = made["tuned_with_segments"] or config.tuned_with_segments
    write_detections(found, path.with_suffix(".csv"))
    return write_detections(found, path, _external_data(run), made)


def detections_of(
    folder: Path, config: LocalizeConfig | None = None, use_labels: bool = False, stage: int | None = None
) -> Path:
    """Where `detect` writes; `config` is None for the run's own localization."""
    own = Recipe.parse(read_run(folder)["recipe"], str(folder / "run.json")).localize
    other = (config is not None and config != own) or use_labels
    marks = ([] if stage is None else [f"stage-{stage}"]) + (
        [digest([(config or own).plain(), use_labels])] if other else []
    )
    return folder / "detections" / f"{'-'.join(['detections', *marks])}.json"


def localize_settings(folder: Path, assignments: Sequence[str]) -> LocalizeConfig:
    """A run's localization with `localize.key=value` overrides.

    Raises:
        UsageError: when an override is of another section: the head is trained already.
        ConfigError: when a key or a value is refused.
    """
    refuse_other_sections(assignments)
    return Recipe.parse(with_assignments(read_run(folder)["recipe"], assignments), str(folder / "run.json")).localize


def refuse_other_sections(assignments: Sequence[str]) -> None:
    """Refuse overrides of what is trained already.

    Raises:
        UsageError: naming the first.
    """
    others = [assignment for assignment in assignments if not assignment.startswith("localize.")]
    if others:
        raise UsageError(f"a trained run takes --set localize.KEY=VALUE alone, got {others[0]}; train another run")


def localize_all(
    activations: FeatureStore,
    keys: Sequence[str],
    classes: Sequence[str],
    config: LocalizeConfig,
    allowed: Mapping[str, frozenset[str]],
) -> dict[str, list[Detection]]:
    """Stored activations -> detections of each video in `keys`; `allowed` narrows the classes of those it names.

    A video without snippets, too short for its store's tail policy, has no activations and no detections.

    Raises:
        UsageError: when the activations are an ensemble's, and the configuration wants a head's.
    """
    if "ensemble" in activations.identity:
        refuse_unfit(config)
    present = [key for key in keys if key in activations]
    videos = (read_activations(activations[key], classes, allowed.get(key)) for key in present)
    found: dict[str, list[Detection]] = {key: [] for key in keys}
    for key, made in zip(present, localize_many(videos, tuple(classes), config), strict=True):
        found[key] = [one for one in made if key not in allowed or one.label in allowed[key]]
    return found


def read_activations(
    video: VideoFeatures, classes: Sequence[str], names: frozenset[str] | None = None
) -> tuple[Activations, SnippetGrid]:
    """What a head said of a video, and of each stream, as `_activate` has stored it; with the video's clock.

    With `names`, the scores of all other classes are zero.
    """

    def one(stream: str, scores: Sequence[float]) -> Activations:
        attention = video.streams.get(f"attention{stream}")
        return Activations(
            video.streams[f"cas{stream}"],
            None if attention is None else attention[:, 0],
            _narrow(np.array(scores, dtype=np.float32), classes, names),
        )

    alone = {name: one(f"_{name}", scores) for name, scores in video.info.get("stream_scores", {}).items()}
    return replace(one("", video.info["video_scores"]), streams=alone), video.grid


def stamps(run: dict[str, Any]) -> dict[str, Any]:
    """What every output of a run must say of itself: its weights, and a choice made with segments."""
    return {"weights": weights_of(run["features"]), "tuned_with_segments": run["tuned_with_segments"]}


def weights_of(identity: dict[str, Any]) -> dict[str, str]:
    """Stream -> the weights that a store's features were made with: `random SEED`, `sha256 DIGEST`, or `none`."""
    learned = {stream: one.get("weights") or {} for stream, one in identity.get("weights", {}).items()}
    return {stream: " ".join(f"{k} {v}" for k, v in one.items()) or "none" for stream, one in learned.items()}


def _external_data(run: dict[str, Any]) -> str:
    """What a challenge wants to know: data beside its own that the features were learned from."""
    learned = {stream: name for stream, name in weights_of(run["features"]).items() if name != "none"}
    if not learned:
        return ""
    return f"{run['features']['backbone']} features, weights {', '.join(f'{k}: {v}' for k, v in learned.items())}"


def _narrow(scores: Scores, classes: Sequence[str], names: frozenset[str] | None) -> Scores:
    """Video scores with the classes that a video is known not to show set to zero."""
    if names is None:
        return scores
    shown = np.array([name in names for name in classes])
    return np.where(shown, np.maximum(scores, np.finfo(np.float32).tiny), np.float32(0))


def activations_folder(folder: Path, stage: int | None = None) -> Path:
    """Where the activations of a run lie, or those of a stage of its training."""
    return folder / ("activations" if stage is None else f"activations-stage-{stage}")


def activations_of(
    folder: Path,
    run: dict[str, Any],
    store: FeatureStore,
    keys: Sequence[str],
    device: str,
    reporter: Reporter,
    stage: int | None,
) -> FeatureStore:
    """The run's activations, computing those of `keys` that are missing. A second process waits for the first.

    Where none is missing nothing is written, so that a read-only run does.
    """
    if ensemble_by(run):
        return open_means(folder, run)
    recipe = Recipe.parse(run["recipe"], str(folder / "run.json"))
    learned = {key: run[key] for key in ("seed", "features", "classes")} | {"recipe": training_identity(run["recipe"])}
    target = activations_folder(folder, stage)
    identity: dict[str, Any] = {"run": digest(learned, 16), **({} if stage is None else {"stage": stage})}
    kept = _complete(target, identity, store, keys)
    if kept is not None:
        return kept
    with locked(folder / ".lock"):
        writer = StoreWriter.open(target, identity)
        if any(writer.fingerprint(key) not in (None, store.fingerprint(key)) for key in keys):
            reporter.say(f"{store.path} was extracted anew from other files; activations are made anew")
            shutil.rmtree(target)
            writer = StoreWriter.open(target, identity)
        missing = [key for key in keys if not writer.done(key) and store.grid(key).num_snippets > 0]
        if missing:
            _activate(writer, folder, run, recipe, store, missing, device, reporter, stage)
        return writer.publish()


def _complete(
    target: Path, identity: Mapping[str, Any], store: FeatureStore, keys: Sequence[str]
) -> FeatureStore | None:
    """The published activations of all of `keys`; None where any is missing, or of another file."""
    if not (target / "index.json").is_file():
        return None
    kept = FeatureStore.open(target)
    there = all(
        kept.fingerprint(key) == store.fingerprint(key) if key in kept else store.grid(key).num_snippets == 0
        for key in keys
    )
    return kept if there and kept.identity == identity else None


def _activate(
    writer: StoreWriter,
    folder: Path,
    run: dict[str, Any],
    recipe: Recipe,
    store: FeatureStore,
    keys: Sequence[str],
    device: str,
    reporter: Reporter,
    stage: int | None,
) -> None:
    """Run the trained head over `keys` of the store."""
    from wtal.models.inference import activate

    trained = trained_head(folder, run, recipe, stage)
    trained.head.to(device)
    with reporter.task("detect", len(keys), "video") as task:
        for key in keys:
            made = activate(trained.head, trained.scaler, store[key], device)
            writer.write(key, store.grid(key), _arrays(made), _scores(made), store.fingerprint(key))
            task.advance()


def trained_head(folder: Path, run: dict[str, Any], recipe: Recipe, stage: int | None = None) -> "Trained":
    """A run's head with the parameters that it ended with, or had at the end of a stage of training.

    Raises:
        WtalError: when the run is not finished.
        UsageError: when it has kept no such stage.
    """
    from wtal.models.training.checkpoint import load_stage, load_trained

    head = make_head(recipe, len(run["classes"]), run["feature_dims"])
    return load_trained(head, folder) if stage is None else load_stage(head, folder, stage)


def _arrays(made: Activations, suffix: str = "") -> dict[str, NDArray[np.float32]]:
    """Activations as the streams of a store: cas and attention, and cas_rgb, attention_rgb, ... of each stream."""
    found = {f"cas{suffix}": made.cas}
    if made.attention is not None:
        found[f"attention{suffix}"] = made.attention[:, None]
    for name, one in made.streams.items():
        found |= _arrays(one, f"_{name}")
    return found


def _scores(made: Activations) -> dict[str, Any]:
    alone = {name: one.video_scores.tolist() for name, one in made.streams.items()}
    return {"video_scores": made.video_scores.tolist(), **({"stream_scores": alone} if alone else {})}


def _labels(folder: Path, run: dict[str, Any], keys: Sequence[str]) -> dict[str, frozenset[str]]:
    dataset = read_annotations(resolve(folder, run["annotations"]))
    present = match_ids(dataset.videos, keys)
    return {key: frozenset(dataset.videos[name].labels) for name, key in present.items() if dataset.videos[name].labels}
