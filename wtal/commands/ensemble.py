"""`wtal ensemble`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._settings import localize_set_option
from wtal.commands._types import InWorkspace
from wtal.errors import UsageError
from wtal.pipeline.devices import pick_device
from wtal.pipeline.ensembles.ensemble import ensemble
from wtal.pipeline.run_record import By
from wtal.pipeline.workspace import Workspace


@click.command("ensemble", cls=Command, short_help="Combine several runs into one.")
@click.argument("runs", nargs=-1, required=True, type=InWorkspace("runs"), metavar="RUN RUN...")
@click.option(
    "--by",
    type=Choice(["activations", "detections"]),
    default="activations",
    show_default=True,
    help="Combine the mean of the activations, or pool the detections.",
)
@click.option(
    "--weights",
    default="",
    metavar="2,1,1",
    help="Weights of the runs, comma-separated; a run's seeds share its weight. Default: equal.",
)
@click.option(
    "--out",
    default="",
    metavar="NAME|FOLDER",
    help="Name or folder of the new run. Default: the names of its heads and a digest.",
)
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
    """Combine runs, detect, and print a folder that other commands accept as a run.

    RUN is a run (with all its seeds) or one of its seeds. Heads, features and snippet grids may differ; classes and the
    reported subset must be the same. By default, activations are made comparable, averaged on the finest grid and
    localized once with the first run's localization and any --set localize.KEY=VALUE; --by detections fuses each run's
    own detections.
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
    """Parse `2,1,1` as weights; an empty text has none.

    Raises:
        UsageError: when a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--weights takes numbers separated by commas, such as 2,1,1; got {text!r}") from None
