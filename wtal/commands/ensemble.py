"""`wtal ensemble`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    localize_set_option,
    print_json,
    workspace_option,
)
from wtal.errors import UsageError
from wtal.pipeline.devices import pick_device
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.run_record import By
from wtal.pipeline.workspace import Workspace


@click.command("ensemble", cls=Command, short_help="Several runs -> one: means of activations, or fused detections.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option(
    "--by",
    type=click.Choice(["activations", "detections"]),
    default="activations",
    show_default=True,
    help="What is put together.",
)
@click.option("--weights", default="", metavar="2,1,1", help="One per run, shared by its seeds. Default: equal.")
@click.option("--out", default="", metavar="NAME|FOLDER", help="Default: the heads and a digest, among the runs.")
@localize_set_option
@device_option
@workspace_option
@json_option
def command(
    runs: tuple[Path, ...],
    by: By,
    weights: str,
    out: str,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Put runs together, detect, and print a folder that other commands take as a run.

    RUN is a run (all its seeds count) or one of its seeds; heads, features and snippet grids may differ, classes and
    the reported subset may not. Activations are made comparable, averaged on the finest grid and localized once, by
    the first run's localization with --set localize.KEY=VALUE over it; or each run's own detections are fused.
    """
    shares = parse_weights(weights)
    root = Workspace(workspace)
    joined = ensemble(runs, root, by, shares, out, assignments, pick_device(device), ConsoleReporter())
    if as_json:
        print_json(
            {
                "run": str(joined.run.folder),
                "detections": str(joined.detections),
                "members": [str(member) for member in joined.members],
                "lacking": list(joined.lacking),
            }
        )
    else:
        click.echo(str(joined.run.folder))


def parse_weights(text: str) -> tuple[float, ...]:
    """Parse `2,1,1` as weights, and nothing as none.

    Raises:
        UsageError: when a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--weights takes numbers with commas, such as 2,1,1; got {text!r}") from None
