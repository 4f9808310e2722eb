"""`wtal train`."""

import re
from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    verdicts_option,
    workspace_option,
)
from wtal.commands._settings import recipe_set_option
from wtal.commands._types import InWorkspace, Name
from wtal.pipeline.devices import check_seeds, pick_device
from wtal.pipeline.ensembles.train_members import recipe_of, resolve_recipe
from wtal.pipeline.learn import learn
from wtal.pipeline.recipe import DEFAULT_RECIPE, recipe_names
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
@click.option(
    "--check", is_flag=True, help="After training, predict held-out labels and report per class what was learned."
)
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

    RECIPE is a TOML file, or the name of one that comes with wtal (`wtal list recipes`). Only the
    video-level labels of the annotations are used. An interrupted training continues where it stopped.
    """
    numbers = parse_seeds(seeds)
    resolved = recipe_of(recipe, assignments)
    if dry_run:
        print_json(resolve_recipe(resolved).plain())
        return
    root = Workspace(workspace)
    sources = (store or root.only_store(), annotations or root.only_annotations())
    runs = learn(*sources, resolved, numbers, root, check, verdicts, pick_device(device), ConsoleReporter())
    folders = [str(run.folder) for run in runs]
    if as_json:
        checks = {"label_check": runs[0].label_check} if check else {}
        print_json({"runs": folders, **checks})
    else:
        click.echo("\n".join(folders))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse `0,1,2` as seeds.

    Raises:
        UsageError: when a part is not a whole number from 0 to 2^32 - 1, or occurs twice.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if re.fullmatch("[0-9]{1,10}", part)]
    return check_seeds(numbers if len(numbers) == len(parts) else (), text)
