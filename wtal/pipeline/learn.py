"""Features and labels of a workspace -> runs: `wtal train` without its printing."""

from collections.abc import Sequence
from pathlib import Path

from wtal.pipeline.checks.label_check import check_runs
from wtal.pipeline.ensembles.train_members import train_recipe
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.review.teach import taught_inputs
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, lengths, obstacles
from wtal.pipeline.workspace import Workspace


def learn(
    store: Path,
    annotations: Path,
    recipe: Recipe,
    seeds: Sequence[int],
    workspace: Workspace,
    check: bool = False,
    verdicts: bool = True,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> list[Run]:
    """Train a run per seed on the labels, and on additional labels from the workspace's verdicts.

    With `check`, heads then predict held-out labels.

    Raises:
        UsageError: when a subset does not exist, or the one that selects the step contains reported videos.
        WtalError: when no video has both features and labels.
    """
    inputs = TrainInputs(store, annotations)
    if verdicts:
        inputs = taught_inputs(inputs, recipe.evaluate.train_subset, workspace, reporter)
    for line in obstacles(inputs, recipe):
        reporter.say(f"labels: {line}")
    for line in lengths(inputs):
        reporter.say(line)
    runs = train_recipe(inputs, recipe, seeds, workspace, device, reporter)
    return check_runs(inputs, recipe, runs, workspace, device, reporter) if check else runs
