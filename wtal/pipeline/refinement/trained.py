"""Load the networks of refined runs: a student as of the end of a round, or a rescorer."""

from pathlib import Path
from typing import TYPE_CHECKING

from wtal.errors import UsageError, WtalError
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.refinement.networks import make_rescorer, make_student
from wtal.pipeline.runs import Run

if TYPE_CHECKING:
    from wtal.models.rescorer import Rescorer
    from wtal.models.student import Student
    from wtal.models.training.checkpoint import Trained

WAY_OUT = "run `wtal refine` with its teacher again to resume"


def trained_student(run: Run, stage: int | None = None) -> "Trained[Student]":
    """Load a refined run's student as of the end of its last round, or of round `stage`, counted from 0.

    Raises:
        WtalError: when the run is not finished.
        UsageError: when there was no such round.
    """
    from wtal.models.training.checkpoint import load_stage

    refuse_unfinished(run)
    config = run.recipe.refinement
    if isinstance(config, RescoreConfig):
        raise UsageError(f"{run.folder} has a rescorer, not a student")
    student = make_student(config, len(run.classes), run.feature_dims)
    return load_stage(student, run.folder, last_round(run.folder) if stage is None else stage)


def trained_rescorer(run: Run) -> "Trained[Rescorer]":
    """Load a refined run's rescorer.

    Raises:
        WtalError: when the run is not finished.
        UsageError: when the run has a student instead.
    """
    from wtal.models.training.checkpoint import load_stage

    refuse_unfinished(run)
    config = run.recipe.refinement
    if not isinstance(config, RescoreConfig):
        raise UsageError(f"{run.folder} has a student, not a rescorer")
    return load_stage(make_rescorer(config, len(run.classes), run.feature_dims), run.folder, last_round(run.folder))


def refuse_unfinished(run: Run) -> None:
    """Refuse a refined run that is not finished.

    Raises:
        WtalError: with instructions to finish it.
    """
    if not run.finished:
        raise WtalError(f"{run.folder} is not finished; {WAY_OUT}")


def last_round(folder: Path) -> int:
    """Return the number of the last round used for training, from the stages in a refined run's folder.

    Raises:
        WtalError: when there is none.
    """
    rounds = [int(path.stem.removeprefix("stage-")) for path in folder.glob("stage-*.pt")]
    if not rounds:
        raise WtalError(f"{folder} has lost its parameters (stage-*.pt); delete it and {WAY_OUT}")
    return max(rounds)
