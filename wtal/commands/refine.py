"""`wtal refine`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    refine_set_option,
    workspace_option,
)
from wtal.commands.train import parse_seeds
from wtal.pipeline.devices import pick_device
from wtal.pipeline.refinement.gains import gains_of
from wtal.pipeline.refinement.refine import refine, refinement_of
from wtal.pipeline.runs import open_runs
from wtal.pipeline.workspace import Workspace


@click.command(
    "refine", cls=Command, short_help="A run's detections -> a student that learns borders from them, as a run."
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--seeds", default="0", show_default=True, metavar="0,1,2", help="Of an ensemble's students.")
@click.option("--dry-run", is_flag=True, help="Print the settings and do nothing.")
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
    """Make a run's detections of its training videos pseudo segments, train a student on them, and detect.

    RUN is a run (all its seeds count), one of its seeds, or an ensemble; without it, the newest finished one. Of the
    annotations only video-level labels are used. The folders that are printed are runs to other commands. A table says
    what each round taught and, where there is ground truth, what it gained; an interrupted call goes on where it was.
    """
    numbers, home = parse_seeds(seeds), Workspace(workspace)
    teachers = open_runs(run or home.newest_run())
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
