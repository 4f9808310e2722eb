"""`wtal train`."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    pick_device,
    print_json,
    verdicts_option,
    workspace_option,
)
from wtal.commands._settings import overridden, recipe_set_option
from wtal.commands._types import LARGEST_SEED, InWorkspace, Name
from wtal.errors import UsageError
from wtal.pipeline.ensembles.train_members import resolve_recipe, train_recipe
from wtal.pipeline.label_check import check_runs
from wtal.pipeline.recipe import DEFAULT_RECIPE, Recipe, load_recipe, recipe_names
from wtal.pipeline.review.teach import taught_inputs
from wtal.pipeline.train import TrainInputs, lengths, obstacles
from wtal.pipeline.workspace import Workspace


@click.command("train", cls=Command, resumes=True, short_help="Train a localization head from video-level labels.")
@click.argument("recipe", type=Name(recipe_names), default=DEFAULT_RECIPE)
@click.option("--store", type=InWorkspace("features"), help="Feature store. Default: the workspace's only one.")
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file. Default: the workspace's only one."
)
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="0,1,2",
    help="Seeds of training, comma-separated; one run per seed.",
)
@click.option("--check", is_flag=True, help="Then predict held-out labels and report per class what was learned.")
@verdicts_option
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and do nothing else.")
@recipe_set_option
@device_option
@workspace_option
@json_option
def command(
    recipe: str,
    store: Path | None,
    annotations: Path | None,
    seeds: str,
    check: bool,
    verdicts: bool,
    dry_run: bool,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Train a localization head and print the folder of each seed.

    RECIPE is a TOML file, or the name of one that comes with wtal (`wtal list recipes`). Of the annotations, only
    video-level labels are used. An interrupted training continues where it stopped.
    """
    numbers = parse_seeds(seeds)

    def load(chosen: Sequence[str]) -> tuple[Recipe, Recipe]:
        loaded = load_recipe(recipe, chosen)
        return loaded, resolve_recipe(loaded)

    resolved, spelled_out = overridden(assignments, load)
    if dry_run:
        print_json(spelled_out.plain())
        return
    root = Workspace(workspace)
    reporter = ConsoleReporter()
    inputs = TrainInputs(store or root.only_store(), annotations or root.only_annotations())
    if verdicts:
        inputs = taught_inputs(inputs, resolved.evaluate.train_subset, root, reporter)
    for line in obstacles(inputs, resolved):
        reporter.say(f"labels: {line}")
    for line in lengths(inputs):
        reporter.say(line)
    device = pick_device(device)
    runs = train_recipe(inputs, resolved, numbers, root, device, reporter)
    if check:
        runs = check_runs(inputs, resolved, runs, root, device, reporter)
    folders = [str(run.folder) for run in runs]
    if as_json:
        checks = {"label_check": runs[0].label_check} if check else {}
        print_json({"runs": folders, **checks})
    else:
        click.echo("\n".join(folders))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse `0,1,2` as seeds.

    Raises:
        UsageError: when a part is no whole number from 0 to 2^32 - 1, or stands twice.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if re.fullmatch("[0-9]{1,10}", part)]
    if len(numbers) < len(parts) or len(set(numbers)) < len(numbers) or max(numbers) > LARGEST_SEED:
        raise UsageError(
            f"--seeds takes whole numbers up to {LARGEST_SEED} with commas, each once, such as 0,1,2; got {text!r}"
        )
    return tuple(numbers)
