"""A trained run -> a refined run: its detections in the training videos teach a student, or are rescored.

Annotated times go no further than this module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wtal.config import build_overridden, digest, override
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import RescoreConfig, SecondStage, second_stage
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import with_assignments
from wtal.pipeline.refinement.lessons import Lessons, first_segments
from wtal.pipeline.refinement.networks import make_student, resolve_second_stage
from wtal.pipeline.refinement.rescore import train_rescorer
from wtal.pipeline.refinement.teacher import Teacher, features_folder
from wtal.pipeline.runs import Run, is_finished
from wtal.pipeline.train import training_videos
from wtal.pipeline.workspace import Workspace, relative
from wtal.registry import nearest


def refine(
    teachers: Sequence[Run],
    config: SecondStage,
    workspace: Workspace,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    reporter: Reporter = SILENT,
    localize: LocalizeConfig | None = None,
) -> list[Run]:
    """Train a student, or a rescorer, for each teacher, a seed of a head's run or an ensemble; return the refined runs.

    A head's student has its teacher's seed; an ensemble, which has none, gets a student for each of `seeds`. Partial
    runs are resumed, and finished ones reused. `localize` overrides the teachers' own.

    Raises:
        UsageError: when a teacher is a refined run, or its heads use features from several stores.
        WtalError: when a teacher is not finished, or no training video has features and labels.
        ConfigError: when a setting of the student is refused.
    """
    config = resolve_second_stage(config)
    pairs = [(run, seed) for run in teachers for seed in (seeds if run.seed is None else (run.seed,))]
    return [
        _refine_one(Teacher(run, localize or run.recipe.localize, device, reporter), config, workspace, seed)
        for run, seed in pairs
    ]


def refinement_of(run: Run, assignments: Sequence[str] = ()) -> SecondStage:
    """Return the second stage of a run's recipe, with `refine.key=value` overrides, every setting spelled out.

    Raises:
        UsageError: when an override belongs to another section.
        OverrideError: when an override is refused.
    """
    foreign = [assignment for assignment in assignments if not assignment.startswith("refine.")]
    if foreign:
        section, dot, rest = foreign[0].partition("=")[0].strip().partition(".")
        near = nearest(section, type(run.recipe.refinement).model_fields)
        hint = f"; did you mean 'refine.{near}{dot}{rest}'?" if near else ""
        raise UsageError(f"--set {foreign[0]}: the second stage accepts only refine.KEY=VALUE{hint}")
    own: dict[str, Any] = run.recipe.refinement.plain()
    return build_overridden(assignments, lambda some: _overridden_stage(own, some))


def _overridden_stage(own: dict[str, Any], assignments: Sequence[str]) -> SecondStage:
    values = with_assignments({"refine": own}, assignments)["refine"]
    if {"student", "rescorer"} <= values.keys():  # a stage of the other kind starts from its own defaults
        values = override({}, assignments)["refine"]
    for kind in own.keys() & {"student", "rescorer"}:
        network = values.get(kind, {})
        if isinstance(network, dict) and network.get("name", own[kind]["name"]) != own[kind]["name"]:  # so does another
            named = override({}, [each for each in assignments if each.startswith(f"refine.{kind}")])
            values[kind] = named["refine"][kind]
    return resolve_second_stage(second_stage(values))


def _refine_one(teacher: Teacher, config: SecondStage, workspace: Workspace, seed: int) -> Run:
    run, reporter = teacher.run, teacher.reporter
    if run.refined:
        raise UsageError(f"{run.folder} is already refined; pass its teacher, and set refine.rounds for more rounds")
    if not run.finished:
        raise WtalError(f"{run.folder} is not finished; finish training it first; it resumes where it stopped")
    features, dataset = teacher.features(), run.annotations()
    keys = [key for key in teacher.ids() if key in features]
    labelled, negatives = training_videos(features, dataset, run.recipe, keys, reporter)
    names = dataset.match(keys, [*(video.id for video in labelled), *(video.id for video in negatives)])
    labels = {names[video.id]: frozenset(dataset.videos[video.id].labels) for video in labelled}
    background = [names[video.id] for video in negatives if video.absent.all()]
    mark = _mark(teacher, config, seed, features, labels, background)
    folder = workspace.runs / f"refined-{run.recipe.heads if not run.ensemble else 'ensemble'}-{mark}" / f"seed-{seed}"
    if is_finished(folder):
        reporter.say(f"{folder} is already refined")
        return Run.open(folder)
    refined = Run.write(folder, _describe(teacher, config, seed, features, folder, mark))
    if isinstance(config, RescoreConfig):
        train_rescorer(refined, teacher, config, features, labels, background, _scaling(refined, config))
        refined.finish({})
        return refined
    proposals = teacher.proposals(list(labels), labels)
    first = first_segments(proposals, run.classes, labels, config.segments)
    lessons = Lessons(folder, features, run.classes, labels, first, config, refined.recipe.localize, teacher.device)
    rounds = _train(refined, lessons, background, teacher.device, reporter)
    refined.finish({"rounds": rounds})
    return refined


def _mark(
    teacher: Teacher,
    config: SecondStage,
    seed: int,
    features: FeatureStore,
    labels: Mapping[str, frozenset[str]],
    background: Sequence[str],
) -> str:
    """Return a digest of everything that affects what is learned."""
    run = teacher.run
    origin = run.ensemble_digest or digest(run.training_identity, 16)
    taught = {key: [sorted(own), features.fingerprint(key)] for key, own in labels.items()}
    negative = {key: features.fingerprint(key) for key in background}
    return digest([config.plain(), seed, origin, teacher.localize.plain(), list(run.classes), taught, negative])


def _describe(
    teacher: Teacher, config: SecondStage, seed: int, features: FeatureStore, folder: Path, mark: str
) -> dict[str, Any]:
    """Return the content of a refined run's `run.json`: its teacher's, with a localization of its own."""
    run = teacher.run
    content = run.to_json()
    own = ("format", "classes", "features", "labels", "untrained", "label_check", "tuned_with_segments")
    answer = {
        "suppression": "soft",
        "overlap": "tiou",
        "soft_sigma": config.soft_sigma,
        "max_detections": config.max_detections,
    }
    # A rescorer's proposals are made with its teacher's quirks; a student makes none.
    quirks: dict[str, list[str]] = {} if isinstance(config, RescoreConfig) else {"quirks": []}
    localize = LocalizeConfig.parse(teacher.localize.plain() | answer | quirks)
    return {
        **{key: content[key] for key in own if key in content},
        "recipe": {**content["recipe"], "localize": localize.plain(), "refine": config.plain()},
        "seed": seed,
        "store": relative(features_folder(run), folder),
        "annotations": relative(run.annotations_file(), folder),
        "feature_dims": features.dims,
        "refined": {
            "teacher": relative(run.folder, folder),
            "localize": teacher.localize.plain(),
            "mark": mark,
        },
    }


def _train(refined: Run, lessons: Lessons, background: Sequence[str], device: str, reporter: Reporter) -> int:
    """Train the student of a refined run; return the number of rounds used for training."""
    import torch

    from wtal.models.refinement.answers import clock_of
    from wtal.models.refinement.teaching import TaughtVideo
    from wtal.models.refinement.trainer import StudentTrainer
    from wtal.models.training.inputs import Scaler

    features, config, seed = lessons.features, lessons.config, refined.seed or 0

    def taught(key: str, own: frozenset[str]) -> TaughtVideo:
        shown = np.array([name in own for name in refined.classes], dtype=np.float32)
        return TaughtVideo(key, lambda: features[key].streams, shown, *clock_of(features.grid(key)))

    videos = [taught(key, own) for key, own in lessons.labels.items()]
    videos += [taught(key, frozenset()) for key in background]
    torch.manual_seed(seed)
    student = make_student(config, len(refined.classes), refined.feature_dims)
    scaler = Scaler.fit(_scaling(refined, config), videos)
    trainer = StudentTrainer(student, videos, config, scaler, lessons.teach, seed, refined.folder, device)
    with reporter.task(f"train {config.student_name} seed {seed}", trainer.steps, "step") as task:
        done = 0

        def on_step(progress: Any) -> None:
            nonlocal done
            task.advance(progress.step - done, f"loss {progress.loss:.4f}")
            done = progress.step

        return trainer.run(on_step)


def _scaling(refined: Run, config: SecondStage) -> str:
    """Return the kind of scaling of the features."""
    if config.train.scaling != "teacher":
        return config.train.scaling
    run = refined.teacher()
    while run.ensemble:
        run = run.members()[0]
    return run.recipe.train.scaling
