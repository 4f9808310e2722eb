"""Several runs -> one: an ensemble, in a folder that other commands accept as a run.

Members may be seeds of one recipe, different heads, and heads on different features and grids. How their outputs are
interpreted and made comparable is described in `wtal.models.localization.ensemble`. Only averaged or fused data is
copied, so an ensemble outlives its members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.locks import locked
from wtal.errors import UsageError
from wtal.models.localization.config import FUSED, LocalizeConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.ensemble_run import refuse_unfit, refuse_unfused
from wtal.pipeline.ensembles.members import Member, gather, joined_features, joined_rules, lacking
from wtal.pipeline.ensembles.parts import ActivationParts, DetectionParts, EnsembleParts
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import localization_with
from wtal.pipeline.run_record import By
from wtal.pipeline.runs import ACTIVATIONS, UNTRAINED, Run, is_run
from wtal.pipeline.workspace import Workspace, relative

_NAMED = 4
"""Maximum number of heads spelled out in a folder's name."""


@dataclass(frozen=True)
class Ensemble:
    """The ensemble as a run, its detections, its members' folders, and the videos that only some members have."""

    run: Run
    detections: Path
    members: tuple[Path, ...]
    lacking: tuple[str, ...]


def ensemble(
    runs: Sequence[Path],
    workspace: Workspace,
    by: By = "activations",
    weights: Sequence[float] = (),
    out: str = "",
    assignments: Sequence[str] = (),
    device: str = "cpu",
    reporter: Reporter = SILENT,
    only: frozenset[str] | None = None,
) -> Ensemble:
    """Average the runs' activations, or fuse their detections, and detect; existing results are reused.

    `weights` has one per run, equal by default; a run's seeds share its weight. `out` is a name below the workspace's
    runs or a folder; the default name has the heads and a digest of members, weights and localization. Localization is
    the first run's, except for the class threshold, overridden by `assignments` (`localize.key=value`). `only` narrows
    the members' stores to some of their videos.

    Raises:
        UsageError: when the runs are incompatible, or the folder holds something else.
        WtalError: when a run is not finished.
        ConfigError: when an assignment is refused.
    """
    members = gather(runs, weights)
    own = joined_localization([(member.weight, member.localize) for member in members], by, assignments)
    parts = (ActivationParts if by == "activations" else DetectionParts)(members, device, reporter, only)
    without = lacking(parts.ids)
    if without:
        every = len(set().union(*parts.ids))
        reporter.say(
            f"{len(without)} of {every} videos are missing from some members; using those that have them (first: "
            f"{', '.join(without[:3])})"
        )
    identity = _identity(members, parts.marks, by, own)
    if only is not None:
        identity["videos"] = digest(sorted(set().union(*parts.ids)))
    folder = _folder(out, workspace, members, digest(identity))
    if _is_made(folder, identity):
        reporter.say(f"{folder} exists already")
    else:
        _make(folder, identity, members, own, parts)
    run = Run.open(folder)
    file = run.detections_file()
    file = file if file.is_file() else detect(run, only=only, reporter=reporter)
    return Ensemble(run, file, tuple(member.folder for member in members), tuple(without))


def joined_localization(
    members: Sequence[tuple[float, LocalizeConfig]], by: By, assignments: Sequence[str] = ()
) -> LocalizeConfig:
    """Return the first of the members' (weight, localization), fitted to the combination, then the assignments.

    A class threshold applies to one head's own scores, whose share in the mean is smaller. It is lowered so that a
    class found by a single member is kept: a mean loses no class that any member detects.

    Raises:
        UsageError: when an assignment has no effect here, or belongs to another section.
        ConfigError: when an assignment is refused.
    """
    changed: dict[str, Any] = {"suppression": "fusion"}
    if by == "activations":
        own = [weight * config.class_threshold for weight, config in members if config.class_from == "video_scores"]
        lowest = min(own, default=0.0)
        changed = {"activation": "none", "streams": FUSED, "class_threshold": lowest}
    values = members[0][1].plain() | changed
    config = localization_with({"localize": values}, assignments)
    if by == "activations":
        refuse_unfit(config)
    else:
        refuse_unfused(config, LocalizeConfig.parse(values))
    return config


def _identity(members: Sequence[Member], marks: Sequence[str], by: By, own: LocalizeConfig) -> dict[str, Any]:
    """Return everything that can change the detections or their stamps."""
    parts = [
        {
            "head": member.run.recipe.head_name,
            "seed": member.run.seed,
            "weight": member.weight,
            "mark": mark,
            "localize": digest(member.localize.plain()),
            "tuned_with_segments": member.run.tuned_with_segments,
        }
        for member, mark in zip(members, marks, strict=True)
    ]
    rules = joined_rules(members).plain()
    return {
        "by": by,
        "classes": members[0].run.classes,
        "localize": own.plain(),
        "evaluate": rules,
        "members": parts,
    }


def _folder(out: str, workspace: Workspace, members: Sequence[Member], mark: str) -> Path:
    """Return the folder given by `out`, by path or among the runs; by default, one named after the heads."""
    if out:
        return Path(out) if Path(out).name != out else workspace.runs / out
    heads = [*dict.fromkeys(member.run.recipe.head_name for member in members)]
    readable = "+".join(heads) if len(heads) <= _NAMED else f"{len(heads)}-heads"
    return workspace.runs / f"ensemble-{readable}-{mark}"


def _is_made(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether the folder already holds this ensemble, complete.

    Raises:
        UsageError: when the folder holds anything else.
    """
    if not is_run(folder):
        other_files = (
            [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        )
        if other_files:
            raise UsageError(
                f"{folder} is not an ensemble and holds other files ({min(other_files)}); choose another "
                "folder with --out"
            )
        return False
    run = Run.open(folder)
    if run.ensemble_digest != digest(identity, 16):
        raise UsageError(
            f"{folder} holds another run, or an ensemble of other members, weights or localization, or of earlier "
            "versions of them; choose another folder with --out, or remove it"
        )
    return run.finished


def _make(
    folder: Path, identity: dict[str, Any], members: Sequence[Member], own: LocalizeConfig, parts: EnsembleParts
) -> None:
    """Fill the folder; `finished.json` comes last. A second process waits, then reuses the ensemble."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if not _is_made(folder, identity):
            run = Run.write(folder, _describe(folder, identity, members, own, parts.scales))
            parts.fill(run, {"digest": digest(identity, 16)})
            run.finish({"members": len(members)})


def _describe(
    folder: Path, identity: dict[str, Any], members: Sequence[Member], own: LocalizeConfig, scales: Sequence[float]
) -> dict[str, Any]:
    """Return the content of an ensemble's `run.json`; `scales` of its members, or none."""
    first, by = members[0], identity["by"]
    named = [
        {"run": relative(member.folder, folder, 1), **part}
        for member, part in zip(members, identity["members"], strict=True)
    ]
    named = [{**entry, "scale": scale} for entry, scale in zip(named, scales, strict=True)] if scales else named
    untrained = [label for label in first.run.classes if all(label in member.run.untrained for member in members)]
    return {
        "format": 1,
        "recipe": {
            "title": f"Ensemble by {by} of {', '.join(part['head'] for part in named)}",
            "head": {"name": "ensemble"},
            "localize": own.plain(),
            "evaluate": identity["evaluate"],
        },
        "seed": None,
        "store": ACTIVATIONS if by == "activations" else relative(first.run.store_folder(), folder, 1),
        "annotations": relative(first.run.annotations_file(), folder, 1),
        "features": joined_features(members),
        "feature_dims": {},
        "classes": first.run.classes,
        **({} if first.run.label_counts is None else {"labels": first.run.label_counts}),
        **({UNTRAINED: untrained} if untrained else {}),
        "tuned_with_segments": own.tuned_with_segments or any(member.run.tuned_with_segments for member in members),
        "ensemble": {"by": by, "digest": digest(identity, 16), "members": named},
    }
