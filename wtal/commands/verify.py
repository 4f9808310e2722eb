"""`wtal verify`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json, workspace_option
from wtal.commands._types import InWorkspace
from wtal.errors import StoreError
from wtal.pipeline.inspection.verify import verify


@click.command("verify", cls=Command, short_help="Compare stored features with their checksums.")
@click.argument("sources", nargs=-1, type=InWorkspace("features"), metavar="[STORE|RUN]...")
@click.option(
    "--drop", is_flag=True, help="Drop damaged videos, so that the command that wrote them writes them again."
)
@workspace_option
@json_option
def command(sources: tuple[Path, ...], drop: bool, workspace: Path, as_json: bool) -> None:
    """Compare all numbers in stores of features and of activations with their checksums.

    Without arguments, all stores of the workspace are read. Exits with 1 if there is damage. With --drop, damaged
    videos are removed from their stores; then repeat the command that wrote them (extract, import-features, merge,
    detect, run, ...), which writes only these.
    """
    stores = verify(sources or [workspace], drop, ConsoleReporter())
    if as_json:
        print_json({"stores": [store.to_json() for store in stores]})
    else:
        click.echo("\n".join(line for store in stores for line in store.sentences()))
    unsound = [store for store in stores if not store.sound]
    if unsound:
        videos = sum(len(store.damaged) for store in unsound)
        remedy = "add --drop to remove them, or restore the files" if videos else "restore the files"
        raise StoreError(f"{videos} videos are damaged, in {len(unsound)} of {len(stores)} stores; {remedy}")
