"""`wtal merge`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json, workspace_option
from wtal.commands._types import InWorkspace
from wtal.errors import UsageError
from wtal.pipeline.exchange.merge import merge
from wtal.pipeline.workspace import Workspace


@click.command("merge", cls=Command, short_help="Merge stores of different streams or rates into one.")
@click.argument("stores", nargs=-1, required=True, type=InWorkspace("features"), metavar="STORE STORE...")
@click.option(
    "--grid",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of the store whose grid is used; 1 is the first.",
)
@workspace_option
@json_option
def command(stores: tuple[Path, ...], grid: int, workspace: Path, as_json: bool) -> None:
    """Merge the streams of several stores into one store, and print its folder.

    Features are interpolated at the centres of the chosen store's snippets, in seconds. Videos missing from
    any store are left out.
    """
    if grid > len(stores):
        raise UsageError(f"--grid takes the number of a store, from 1 to {len(stores)}, got {grid}")
    folder = merge(stores, Workspace(workspace), grid - 1, ConsoleReporter())
    if as_json:
        print_json({"store": str(folder)})
    else:
        click.echo(str(folder))
