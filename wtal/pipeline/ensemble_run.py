"""What lies in an ensemble's folder, so that it can be taken as a run: means of activations, or pooled detections."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from wtal.data.detections import read_detections, write_detections
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import FUSING, fuse

By = Literal["activations", "detections"]
Found = Mapping[str, Sequence[Detection]]
"""Video -> what one member found there; a video that it does not have is missing."""

ACTIVATIONS = "activations"


def ensemble_by(run: Mapping[str, Any]) -> By | None:
    """How an ensemble was made, by its `run.json`; None for a head's own run."""
    by: By | None = run.get("ensemble", {}).get("by")
    return by


def open_means(folder: Path, run: Mapping[str, Any]) -> FeatureStore:
    """The mean activations of an ensemble.

    Raises:
        UsageError: when it is one of detections.
        WtalError: when it is not finished.
    """
    _refuse_unfinished(folder)
    if ensemble_by(run) != "activations":
        raise UsageError(f"{folder} is an ensemble by detections, it has no activations; make one --by activations")
    return FeatureStore.open(folder / ACTIVATIONS)


def write_pool(folder: Path, members: Sequence[Found]) -> None:
    """Keep the members' detections, on comparable scores and under common ids."""
    for number, found in enumerate(members):
        write_detections(found, _pool_file(folder, number))


def fused(
    folder: Path,
    run: Mapping[str, Any],
    own: LocalizeConfig,
    config: LocalizeConfig,
    allowed: Mapping[str, frozenset[str]],
) -> dict[str, list[Detection]]:
    """The detections of an ensemble by detections; `allowed` narrows the classes of the videos that it names.

    Raises:
        UsageError: when the `config` differs from its `own` in what fusion does not look at.
        WtalError: when it is not finished.
    """
    _refuse_unfinished(folder)
    refuse_unfused(config, own)
    weights = [member["weight"] for member in run["ensemble"]["members"]]
    members = _read_pool(folder, run)
    found: dict[str, list[Detection]] = {}
    for key in sorted(set().union(*members)):
        shown = allowed.get(key)
        here = [(weight, one[key]) for weight, one in zip(weights, members, strict=True) if key in one]
        kept = [[one for one in some if shown is None or one.label in shown] for _, some in here]
        found[key] = fuse(kept, [weight for weight, _ in here], config)
    return found


def pooled_ids(folder: Path, run: Mapping[str, Any]) -> list[str]:
    """Videos of an ensemble by detections."""
    return sorted(set().union(*_read_pool(folder, run)))


def refuse_unfused(config: LocalizeConfig, own: LocalizeConfig) -> None:
    """Refuse what would change nothing: a `config` that differs from an ensemble's `own` in what finds detections.

    Raises:
        UsageError: naming what fusion looks at.
    """
    before, wanted = own.plain(), config.plain()
    others = [key for key in wanted if wanted[key] != before[key] and key not in (*FUSING, "tuned_with_segments")]
    if others:
        raise UsageError(
            "an ensemble by detections fuses what its members have found: it takes --set localize.KEY=VALUE for "
            f"{', '.join(FUSING)}, not {others[0]}"
        )


def refuse_unfit(config: LocalizeConfig) -> None:
    """Refuse a localization that wants logits where there are means of probabilities.

    Raises:
        UsageError: naming what to add.
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


def _refuse_unfinished(folder: Path) -> None:
    if not (folder / "finished.json").is_file():
        raise WtalError(
            f"{folder} is not finished; say `wtal ensemble` with its members again, it goes on where it was"
        )


def _read_pool(folder: Path, run: Mapping[str, Any]) -> list[Found]:
    return [read_detections(_pool_file(folder, number)) for number in range(len(run["ensemble"]["members"]))]


def _pool_file(folder: Path, number: int) -> Path:
    return folder / "pool" / f"member-{number}.json"
