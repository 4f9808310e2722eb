"""Detections of a refined run: its teacher's proposals, scored by a student or a rescorer."""

from collections.abc import Sequence

from wtal.data.segments import Detection
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import FUSING
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.progress import Reporter
from wtal.pipeline.refinement.rescore import detect_rescored
from wtal.pipeline.refinement.teacher import Labels, Teacher
from wtal.pipeline.refinement.trained import trained_student
from wtal.pipeline.runs import Run

_SELECTING = ("class_threshold", "max_classes", "fallback", "class_from", "class_top_ratio")


def detect_refined(
    run: Run,
    config: LocalizeConfig,
    keys: Sequence[str],
    labels: Labels,
    device: str,
    reporter: Reporter,
    stage: int | None = None,
) -> dict[str, list[Detection]]:
    """Detect in videos `keys`; `labels` narrows the classes of the videos it names.

    Raises:
        UsageError: when the `config` differs from the run's own in settings that a student ignores, or there was no
            such round.
        WtalError: when the run is not finished, or its teacher or store is missing.
    """
    from wtal.models.refinement.answers import candidates_of, scored_by_student

    refinement = run.recipe.refinement
    if isinstance(refinement, RescoreConfig):
        if stage is not None:
            raise UsageError(f"{run.folder} has a rescorer, which has no rounds; leave out --stage")
        return detect_rescored(run, refinement, config, keys, labels, device, reporter)
    refuse_unlocated(config, run.recipe.localize)
    trained = trained_student(run, stage)
    student = trained.head.to(device)
    teacher = Teacher(run.teacher(), selecting(run.teacher_localize, config), device, reporter)
    store, proposals = run.store(), teacher.proposals(keys, labels)
    detections: dict[str, list[Detection]] = {key: [] for key in keys}
    with reporter.task("detect", len(keys), "video") as task:
        for key in keys:
            if proposals[key]:
                candidates = candidates_of(student, trained.scaler, store[key], device)
                detections[key] = scored_by_student(proposals[key], candidates, run.classes, config, refinement)
            task.advance()
    return detections


def selecting(config: LocalizeConfig, other: LocalizeConfig) -> LocalizeConfig:
    """Return a teacher's localization with the selection of classes of another."""
    return config.model_copy(update={key: getattr(other, key) for key in _SELECTING})


def refined_ids(run: Run) -> list[str]:
    """Return the videos that a refined run detects in: those of its teacher that have features."""
    store = run.store()
    return [key for key in Teacher(run.teacher(), run.teacher_localize).ids() if key in store]


def refuse_unlocated(config: LocalizeConfig, own: LocalizeConfig) -> None:
    """Refuse overrides without effect: a `config` that differs from a refined run's `own` in searching signals.

    Raises:
        UsageError: naming the settings that a student uses.
    """
    differing = (key for key in LocalizeConfig.model_fields if getattr(own, key) != getattr(config, key))
    ignored_keys = [key for key in differing if key not in (*FUSING, *_SELECTING, "tuned_with_segments", "preset")]
    if ignored_keys:
        raise UsageError(
            "a student scores the proposals of its teacher, which are fixed: --set localize.KEY=VALUE takes "
            f"{', '.join((*FUSING, *_SELECTING[:3]))}, got {ignored_keys[0]}"
        )
