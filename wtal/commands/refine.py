"""`wtal refine`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    refuse_unless,
    workspace_option,
)
from wtal.commands._settings import refine_set_option
from wtal.commands._types import InWorkspace
from wtal.commands.train import parse_seeds
from wtal.pipeline.devices import pick_device
from wtal.pipeline.refinement.gains import gains_of
from wtal.pipeline.refinement.refine import refine, refinement_of
from wtal.pipeline.runs import open_runs
from wtal.pipeline.workspace import Workspace


@click.command(
    "refine",
    cls=Command,
    resumes=True,
    short_help="Train a student on a run's detections: better borders.",
)
@click.argument("run", required=False, type=InWorkspace("runs"))
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="0,1,2",
    help="Seeds for training the student, comma-separated; for ensembles only.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings and do nothing else.")
@refine_set_option
@device_option
@workspace_option
@json_option
def command(
    run: Path | None,
    seeds: str,
    dry_run: bool,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Train a student on pseudo segments (a run's detections in its own training videos), and detect with it.

    RUN is a run (with all its seeds), one of its seeds, or an ensemble; by default, the newest finished run. Only
    the video-level labels of the annotations are used. Other commands accept the printed folders as runs. A table shows
    the segments used in each round and, with ground truth, the gain in mAP. An interrupted call continues where it
    stopped.
    """
    numbers, home = parse_seeds(seeds), Workspace(workspace)
    teachers = open_runs(run or home.newest_run())
    refuse_unless("an ensemble", any(teacher.seed is None for teacher in teachers), "seeds")
    config = refinement_of(teachers[0], assignments)
    if dry_run:
        print_json(config.plain())
        return
    reporter, chosen = ConsoleReporter(), pick_device(device)
    refined = refine(teachers, config, home, numbers, chosen, reporter)
    gains = [gains_of(each, chosen, reporter) for each in refined]
    if as_json:
        print_json({"runs": [str(each.folder) for each in refined], "rounds": [each.to_json() for each in gains]})
        return
    for each in gains:
        click.echo("\n".join([*each.lines(), ""]))
    click.echo("\n".join(str(each.folder) for each in refined))
