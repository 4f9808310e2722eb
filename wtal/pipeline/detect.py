"""A run -> detections. Its activations are stored, so localization is repeated in seconds and without the head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wtal.data.detections import begins_of, write_detections
from wtal.data.names import match_ids
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.activations import activations_of, localize_all
from wtal.pipeline.ensemble_run import fused, open_means, pooled_begins, pooled_ids
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.refinement.detect_refined import detect_refined, refined_ids
from wtal.pipeline.runs import Run, weights_of


def detect(
    run: Run,
    config: LocalizeConfig | None = None,
    use_labels: bool = False,
    only: frozenset[str] | None = None,
    device: str = "cpu",
    reporter: Reporter = SILENT,
    stage: int | None = None,
) -> Path:
    """Detect in every video of the run's store, or in `only` some; return the detections' JSON, a CSV beside it.

    With a `config` that is not the run's own, or with `use_labels`, the files carry a digest in their name, so that
    the run's own detections stay. `use_labels` narrows each labelled video to its own classes. `stage` takes the
    parameters at the end of one of the stages that the head was trained in.

    Raises:
        WtalError: when the run is not finished or its store has gone.
        UsageError: when the run has kept no such stage, or the head has no such stream, or an ensemble cannot be
            localized like that.
    """
    config = config or run.recipe.localize
    if run.ensemble and stage is not None:
        raise UsageError(f"{run.folder} is an ensemble, it has no stages")
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


def ids_in_subset(run: Run, subset: str) -> frozenset[str]:
    """Return the ids of the run's videos that are in a subset of its annotations.

    Raises:
        UsageError: when there is no such subset, or the run has none of its videos.
        WtalError: when the annotations, or the store, have gone.
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
    """Return what a challenge asks for: data beside its own that features of an identity were learned from."""
    learned = {stream: name for stream, name in weights_of(features).items() if name != "none"}
    if not learned:
        return ""
    return f"{features['backbone']} features, weights {', '.join(f'{k}: {v}' for k, v in learned.items())}"


def _labels(run: Run, keys: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the labels of those `keys` that the run's annotations label."""
    dataset = run.annotations()
    present = match_ids(dataset.videos, keys)
    return {key: frozenset(dataset.videos[name].labels) for name, key in present.items() if dataset.videos[name].labels}
