"""A run -> detections. Activations are stored, so localization can be repeated in seconds and without the head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wtal.data.detections import begins_of, write_detections
from wtal.data.kinds import require_model
from wtal.data.names import match_ids
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.activations import activations_of, localize_all
from wtal.pipeline.ensemble_run import fused, open_means, pooled_begins, pooled_ids
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.refinement.detect_refined import detect_refined, refined_ids
from wtal.pipeline.runs import Run
from wtal.pipeline.stamps import weights_of


def detect(
    run: Run,
    config: LocalizeConfig | None = None,
    use_labels: bool = False,
    only: frozenset[str] | None = None,
    device: str = "cpu",
    reporter: Reporter = SILENT,
    stage: int | None = None,
) -> Path:
    """Detect in the videos of the run's store, or in those of `only`; return the path of the JSON, a CSV next to it.

    With a `config` other than the run's own, or with `use_labels`, file names carry a digest, so that the run's own
    detections are kept. `use_labels` narrows each labelled video to its own classes. `stage` takes the parameters at
    the end of one of the head's training stages.

    Raises:
        WtalError: when the run is not finished or its store is missing.
        UsageError: when the run has kept no such stage, the head has no such stream, or an ensemble cannot be
            localized this way.
    """
    config = config or run.recipe.localize
    if run.ensemble and stage is not None:
        raise UsageError(f"{run.folder} is an ensemble and has no stages; leave out --stage")
    if run.refined:
        store = run.store()
        keys = [key for key in refined_ids(run) if only is None or key in only]
        labels = _labels(run, keys) if use_labels else {}
        detections = detect_refined(run, config, keys, labels, device, reporter, stage)
        begins = begins_of({key: store.grid(key).begins for key in keys})
    elif run.ensemble == "detections":
        labels = _labels(run, pooled_ids(run)) if use_labels else {}
        pooled = fused(run, config, labels)
        detections = {key: segments for key, segments in pooled.items() if only is None or key in only}
        begins = pooled_begins(run)
    else:
        store = open_means(run) if run.ensemble else run.store()
        keys = [key for key in store.ids if only is None or key in only]
        labels = _labels(run, store.ids) if use_labels else {}
        activations = activations_of(run, store, keys, device, reporter, stage)
        detections = localize_all(activations, keys, run.classes, config, labels)
        begins = begins_of({key: activations.grid(key).begins for key in keys if key in activations})
    origin = {"localize": config.plain(), "use_labels": use_labels}
    origin |= ({} if stage is None else {"stage": stage}) | run.stamps | begins
    origin["tuned_with_segments"] = origin["tuned_with_segments"] or config.tuned_with_segments
    path = run.detections_file(config, use_labels, stage)
    write_detections(detections, path.with_suffix(".csv"))
    return write_detections(detections, path, external_data(run.features), origin)


def refuse_without_videos(run: Path | None, out: Path | None, weights: Sequence[str], jobs: int) -> None:
    """Refuse what a call without new videos cannot mean.

    Raises:
        UsageError: when the run is a file, or options of new videos are given.
    """
    if run is not None and run.is_file():
        require_model(run)
        raise UsageError(f"{run} is a packed model: also name the videos to detect in")
    if out is not None or weights or jobs > 1:
        raise UsageError("--out, --weights and --jobs are for new videos; name some after the run")


def ids_in_subset(run: Run, subset: str) -> frozenset[str]:
    """Return the ids of the run's videos that are in a subset of its annotations.

    Raises:
        UsageError: when there is no such subset, or the run has none of its videos.
        WtalError: when the annotations, or the store, no longer exist.
    """
    if run.ensemble == "detections":
        present: Sequence[str] = pooled_ids(run)
    else:
        present = (open_means(run) if run.ensemble else run.store()).ids
    dataset = run.annotations()
    ids = frozenset(dataset.match(present, [video.id for video in dataset.select(subset)]).values())
    if not ids:
        raise UsageError(f"no video of subset {subset!r} is in the store of {run.folder}; name another subset")
    return ids


def external_data(features: Mapping[str, Any]) -> str:
    """Return the statement challenges ask for: external data behind the features of an identity."""
    weights = {stream: name for stream, name in weights_of(features).items() if name != "none"}
    if not weights:
        return ""
    return f"{features['backbone']} features, weights {', '.join(f'{k}: {v}' for k, v in weights.items())}"


def _labels(run: Run, keys: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the labels of those `keys` that the run's annotations label."""
    dataset = run.annotations()
    present = match_ids(dataset.videos, keys)
    return {key: frozenset(dataset.videos[name].labels) for name, key in present.items() if dataset.videos[name].labels}
