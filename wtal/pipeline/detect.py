"""A run -> detections. Its activations are stored, so localization is repeated in seconds and without the head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wtal.data.detections import begins_of, write_detections
from wtal.data.names import match_ids
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.localize import localize_many
from wtal.pipeline.activations import activations_of, read_activations
from wtal.pipeline.ensemble_run import fused, open_means, pooled_begins, pooled_ids, refuse_unfit
from wtal.pipeline.progress import SILENT, Reporter
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
    if run.ensemble == "detections":
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


def localize_all(
    activations: FeatureStore,
    keys: Sequence[str],
    classes: Sequence[str],
    config: LocalizeConfig,
    allowed: Mapping[str, frozenset[str]],
) -> dict[str, list[Detection]]:
    """Localize each video of `keys` from its stored activations; `allowed` narrows the classes of those it names.

    A video without snippets, too short for its store's tail policy, has no activations and no detections.

    Raises:
        UsageError: when the activations are an ensemble's, and the configuration wants a head's.
    """
    if "ensemble" in activations.identity:
        refuse_unfit(config)
    present = [key for key in keys if key in activations]
    videos = (read_activations(activations[key], classes, allowed.get(key)) for key in present)
    detections: dict[str, list[Detection]] = {key: [] for key in keys}
    for key, localized in zip(present, localize_many(videos, tuple(classes), config), strict=True):
        detections[key] = [segment for segment in localized if key not in allowed or segment.label in allowed[key]]
    return detections


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
