"""A run's class activations: computed once by its head, stored in its folder, read back for localization."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.grid import SnippetGrid
from wtal.data.locks import locked
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.data.store.writer import StoreWriter, has_parts
from wtal.errors import StoreError, UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize_many
from wtal.models.localization.signals import Activations
from wtal.pipeline.ensemble_run import open_means, refuse_unfit
from wtal.pipeline.progress import Reporter
from wtal.pipeline.runs import LOCK, Run
from wtal.pipeline.stored_activations import sound_activations
from wtal.pipeline.train import make_head

if TYPE_CHECKING:
    from wtal.models.head import Head
    from wtal.models.training.checkpoint import Trained

Scores = NDArray[np.float32]


def activations_of(
    run: Run,
    store: FeatureStore,
    keys: Sequence[str],
    device: str,
    reporter: Reporter,
    stage: int | None = None,
) -> FeatureStore:
    """Return the run's activations, computing those of `keys` that are missing. A second process waits for the first.

    Nothing is written when none is missing, so a read-only run works.

    Raises:
        UsageError: when the run is refined: it has no activations.
    """
    if run.refined:
        raise UsageError(
            f"{run.folder} is a refined run: its student yields segments, no activations; combine it --by detections"
        )
    if run.ensemble:
        return open_means(run)
    target = run.activations_folder(stage)
    identity: dict[str, Any] = {"run": digest(run.training_identity, 16), **({} if stage is None else {"stage": stage})}
    complete = _complete(target, identity, store, keys)
    if complete is not None:
        return sound_activations(complete, run.classes)
    if run.busy:
        reporter.say(f"another process is training {run.folder} or detecting in it; waiting")
    with locked(run.folder / LOCK):
        trained = trained_head(run, stage)  # refuses a wrong stage before anything is written
        writer = StoreWriter.open(target, identity)
        if any(writer.fingerprint(key) not in (None, store.fingerprint(key)) for key in keys):
            reporter.say(f"{store.path} was extracted again from other files; recomputing activations")
            shutil.rmtree(target)
            writer = StoreWriter.open(target, identity)
        missing = [key for key in keys if not writer.done(key) and store.grid(key).num_snippets > 0]
        if missing:
            _activate(writer, trained, store, missing, device, reporter)
        return sound_activations(writer.publish(), run.classes)


def _complete(
    target: Path, identity: Mapping[str, Any], store: FeatureStore, keys: Sequence[str]
) -> FeatureStore | None:
    """Return the published activations of all of `keys`; None if any is missing or comes from another file.

    Also None if a killed process has left parts, which publishing removes.
    """
    if not (target / "index.json").is_file() or has_parts(target):
        return None
    stored = FeatureStore.open(target)
    present = all(
        stored.fingerprint(key) == store.fingerprint(key) if key in stored else store.grid(key).num_snippets == 0
        for key in keys
    )
    return stored if present and stored.identity == identity else None


def _activate(
    writer: StoreWriter,
    trained: "Trained[Head]",
    store: FeatureStore,
    keys: Sequence[str],
    device: str,
    reporter: Reporter,
) -> None:
    """Run the trained head over `keys` of the store."""
    from wtal.models.inference import activate

    trained.head.to(device)
    with reporter.task("detect", len(keys), "video") as task:
        for key in keys:
            activations = activate(trained.head, trained.scaler, store[key], device)
            writer.write(key, store.grid(key), _arrays(activations), _scores(activations), store.fingerprint(key))
            task.advance()


def trained_head(run: Run, stage: int | None = None) -> "Trained[Head]":
    """Load a run's head with its final parameters, or those at the end of a training stage.

    Raises:
        WtalError: when the run is not finished.
        UsageError: when no such stage was kept.
    """
    from wtal.models.training.checkpoint import load_stage, load_trained

    head = make_head(run.recipe, len(run.classes), run.feature_dims)
    return load_trained(head, run.folder) if stage is None else load_stage(head, run.folder, stage)


def read_activations(
    video: VideoFeatures, classes: Sequence[str], names: frozenset[str] | None = None
) -> tuple[Activations, SnippetGrid]:
    """Return a video's stored activations, including those of each stream, and its clock.

    With `names`, the scores of all other classes are zero.

    Raises:
        StoreError: when the activations are not finite.
    """

    def of_stream(suffix: str, scores: Sequence[float]) -> Activations:
        attention = video.streams.get(f"attention{suffix}")
        return Activations(
            video.streams[f"cas{suffix}"],
            None if attention is None else attention[:, 0],
            _narrow(np.array(scores, dtype=np.float32), classes, names),
        )

    if not all(np.isfinite(values).all() for values in video.streams.values()):
        raise StoreError(
            f"the activations of {video.id} are not finite; delete the activations of its run; they will be recomputed"
        )
    alone = {name: of_stream(f"_{name}", scores) for name, scores in video.info.get("stream_scores", {}).items()}
    return replace(of_stream("", video.info["video_scores"]), streams=alone), video.grid


def _arrays(activations: Activations, suffix: str = "") -> dict[str, NDArray[np.float32]]:
    """Return activations as streams of a store: cas and attention, then cas_rgb, attention_rgb, ... per stream."""
    arrays = {f"cas{suffix}": activations.cas}
    if activations.attention is not None:
        arrays[f"attention{suffix}"] = activations.attention[:, None]
    for name, alone in activations.streams.items():
        arrays |= _arrays(alone, f"_{name}")
    return arrays


def _scores(activations: Activations) -> dict[str, Any]:
    alone = {name: stream.video_scores.tolist() for name, stream in activations.streams.items()}
    return {"video_scores": activations.video_scores.tolist(), **({"stream_scores": alone} if alone else {})}


def _narrow(scores: Scores, classes: Sequence[str], names: frozenset[str] | None) -> Scores:
    """Return video scores, zero for classes known to be absent from the video."""
    if names is None:
        return scores
    shown = np.array([name in names for name in classes])
    return np.where(shown, np.maximum(scores, np.finfo(np.float32).tiny), np.float32(0))


def localize_all(
    activations: FeatureStore,
    keys: Sequence[str],
    classes: Sequence[str],
    config: LocalizeConfig,
    allowed: Mapping[str, frozenset[str]],
) -> dict[str, list[Detection]]:
    """Localize each video of `keys` from its stored activations; `allowed` narrows the classes of the videos it names.

    A video without snippets, too short for its store's tail policy, has no activations and no detections.

    Raises:
        UsageError: when the activations are an ensemble's but the configuration requires a head's.
    """
    if "ensemble" in activations.identity:
        refuse_unfit(config)
    present = [key for key in keys if key in activations]
    videos = (read_activations(activations[key], classes, allowed.get(key)) for key in present)
    detections: dict[str, list[Detection]] = {key: [] for key in keys}
    for key, localized in zip(present, localize_many(videos, tuple(classes), config), strict=True):
        detections[key] = [segment for segment in localized if key not in allowed or segment.label in allowed[key]]
    return detections
