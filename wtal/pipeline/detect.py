"""A run -> detections. Activations are kept, so localization can be done again in seconds and without the head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wtal.config import digest, override
from wtal.data.annotations import read_annotations
from wtal.data.dataset import match_ids
from wtal.data.detections import write_detections
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.data.store_writer import StoreWriter
from wtal.models.localize import Activations, LocalizeConfig, localize
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run


def detect(
    folder: Path,
    assignments: Sequence[str] = (),
    use_labels: bool = False,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Path:
    """Detect in every video of the run's store; returns the detections' JSON, with a CSV beside it.

    `assignments` are `localize.*` overrides; with any, or with `use_labels`, the files carry a digest in their name,
    so that the run's own detections stay. `use_labels` narrows each labelled video to its own classes.

    Raises:
        WtalError: when the run is not finished or its store has gone.
        ConfigError: when an override is refused.
    """
    run = read_run(folder)
    recipe = Recipe.parse(override(run["recipe"], assignments), str(folder / "run.json"))
    store = FeatureStore.open(resolve(folder, run["store"]))
    activations = _activations(folder, run, recipe, store, device, reporter)
    allowed = _labels(folder, run, store) if use_labels else {}
    found = localize_all(activations, tuple(run["classes"]), recipe.localize, allowed)
    default = Recipe.parse(run["recipe"]).localize
    special = recipe.localize != default or use_labels
    name = f"detections-{digest([recipe.localize.plain(), use_labels])}" if special else "detections"
    made = {"localize": recipe.localize.plain(), "use_labels": use_labels, **stamps(run)}
    path = folder / "detections" / f"{name}.json"
    write_detections(found, path.with_suffix(".csv"))
    return write_detections(found, path, _external_data(run), made)


def localize_all(
    activations: FeatureStore,
    classes: tuple[str, ...],
    config: LocalizeConfig,
    allowed: dict[str, frozenset[str]] | None = None,
) -> dict[str, list[Detection]]:
    """Stored activations -> detections of each video; `allowed` narrows the classes of the videos that it names."""
    found = {}
    for key in activations.ids:
        video = activations[key]
        scores = np.array(video.info["video_scores"], dtype=np.float32)
        attention = video.streams["attention"][:, 0] if "attention" in video.streams else None
        narrowed = _narrow(scores, classes, (allowed or {}).get(key))
        made = localize(Activations(video.streams["cas"], attention, narrowed), video.grid, classes, config)
        names = (allowed or {}).get(key)
        found[key] = [one for one in made if names is None or one.label in names]
    return found


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


def _narrow(
    scores: np.ndarray[Any, np.dtype[np.float32]], classes: tuple[str, ...], names: frozenset[str] | None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Video scores with the classes that a video is known not to show set to zero."""
    if names is None:
        return scores
    return np.where([name in names for name in classes], np.maximum(scores, np.finfo(np.float32).tiny), 0.0).astype(
        np.float32
    )


def _activations(
    folder: Path, run: dict[str, Any], recipe: Recipe, store: FeatureStore, device: str, reporter: Reporter
) -> FeatureStore:
    """The run's activations for every video of the store, computing only those that are missing."""
    learned = {key: run[key] for key in ("seed", "features", "classes")} | {"recipe": recipe.training_identity()}
    writer = StoreWriter.open(folder / "activations", {"run": digest(learned, 16)})
    missing = [key for key in store.ids if not writer.done(key)]
    if not missing:
        return writer.publish()
    from wtal.models.head import create_head
    from wtal.models.inference import activate
    from wtal.models.trainer import load_trained

    head = create_head(recipe.head_name, len(run["classes"]), run["feature_dims"], **recipe.head_settings)
    trained = load_trained(head, folder, recipe.train.steps)
    trained.head.to(device)
    with reporter.task("detect", len(missing), "video") as task:
        for key in missing:
            made = activate(trained.head, trained.scaler, store[key], device)
            streams = {"cas": made.cas}
            if made.attention is not None:
                streams["attention"] = made.attention[:, None]
            scores = [float(score) for score in made.video_scores]
            writer.write(key, store.grid(key), streams, {"video_scores": scores})
            task.advance()
    return writer.publish()


def _labels(folder: Path, run: dict[str, Any], store: FeatureStore) -> dict[str, frozenset[str]]:
    dataset = read_annotations(resolve(folder, run["annotations"]))
    present = match_ids(dataset.videos, store.ids)
    return {key: frozenset(dataset.videos[name].labels) for name, key in present.items() if dataset.videos[name].labels}
