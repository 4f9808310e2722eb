"""Contents of an ensemble's folder, in the layout of a run: means of activations, or pooled detections."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wtal.data.detections import BEGINS, read_detections, read_made, write_detections
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import FUSING, fuse
from wtal.pipeline.runs import Run
from wtal.pipeline.stored_activations import sound_activations

Pooled = Mapping[str, Sequence[Detection]]
"""Video -> the detections of one member; videos that the member lacks are absent."""


def open_means(run: Run) -> FeatureStore:
    """Open the mean activations of an ensemble.

    Raises:
        UsageError: when the ensemble is by detections.
        WtalError: when it is not finished.
    """
    _refuse_unfinished(run)
    if run.ensemble != "activations":
        raise UsageError(f"{run.folder} is an ensemble by detections and has no activations; make one --by activations")
    return sound_activations(FeatureStore.open(run.activations_folder()), run.classes)


def write_pool(folder: Path, members: Sequence[Pooled], begins: Mapping[str, float]) -> None:
    """Write the members' detections, on comparable scores and under common ids; `begins` as in their origin."""
    origin = {BEGINS: dict(begins)} if begins else {}
    for number, detections in enumerate(members):
        write_detections(detections, _pool_file(folder, number), origin=origin)


def pooled_begins(run: Run) -> dict[str, Any]:
    """Return the start of each video's first picture in seconds, from the pool's origin."""
    return {key: value for key, value in read_made(_pool_file(run.folder, 0)).items() if key == BEGINS}


def fused(run: Run, config: LocalizeConfig, allowed: Mapping[str, frozenset[str]]) -> dict[str, list[Detection]]:
    """Fuse the detections of an ensemble by detections; `allowed` narrows the classes of the videos it names.

    Raises:
        UsageError: when the `config` differs from the run's own in a setting that fusion ignores.
        WtalError: when it is not finished.
    """
    _refuse_unfinished(run)
    refuse_unfused(config, run.recipe.localize)
    members = _read_pool(run)
    detections: dict[str, list[Detection]] = {}
    for key in sorted(set().union(*members)):
        labels = allowed.get(key)
        present = [
            (weight, member[key]) for weight, member in zip(run.member_weights, members, strict=True) if key in member
        ]
        pools = [[segment for segment in pool if labels is None or segment.label in labels] for _, pool in present]
        detections[key] = fuse(pools, [weight for weight, _ in present], config)
    return detections


def pooled_ids(run: Run) -> list[str]:
    """Return the videos of an ensemble by detections."""
    return sorted(set().union(*_read_pool(run)))


def refuse_unfused(config: LocalizeConfig, own: LocalizeConfig) -> None:
    """Refuse overrides without effect: a `config` that differs from an ensemble's `own` in settings of the members.

    Raises:
        UsageError: naming the settings that fusion uses.
    """
    differing = (key for key in LocalizeConfig.model_fields if getattr(own, key) != getattr(config, key))
    ignored_keys = [key for key in differing if key not in (*FUSING, "tuned_with_segments", "preset")]
    if ignored_keys:
        raise UsageError(
            "an ensemble by detections fuses its members' detections: --set localize.KEY=VALUE takes "
            f"{', '.join(FUSING)}, got {ignored_keys[0]}"
        )


def refuse_unfit(config: LocalizeConfig) -> None:
    """Refuse a localization that requires logits, where the activations are means of probabilities.

    Raises:
        UsageError: naming the settings to add.
    """
    if config.activation != "none":
        raise UsageError(
            f"an ensemble's activations are probabilities already, and localize.activation is {config.activation}; "
            "add --set localize.activation=none"
        )
    if config.class_from != "video_scores":
        raise UsageError(
            "an ensemble has no logits to choose classes by; add --set localize.class_from=video_scores and a "
            "localize.class_threshold for them"
        )


def _refuse_unfinished(run: Run) -> None:
    if not run.finished:
        raise WtalError(f"{run.folder} is not finished; run `wtal ensemble` with its members again to resume")


def _read_pool(run: Run) -> list[Pooled]:
    return [read_detections(_pool_file(run.folder, number)) for number in range(len(run.member_weights))]


def _pool_file(folder: Path, number: int) -> Path:
    return folder / "pool" / f"member-{number}.json"
