"""`wtal weights`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.commands._near import Choice


@click.command("weights", cls=Command, resumes=True, short_help="Fetch published checkpoints, or check those present.")
@click.argument("action", type=Choice(["fetch", "check"]))
@click.argument("names", nargs=-1, required=True, metavar="BACKBONE:NAME...")
@workspace_option
@json_option
def command(action: str, names: tuple[str, ...], workspace: Path, as_json: bool) -> None:
    """Fetch published checkpoints, or check those present, and print their paths.

    `wtal list weights` names them. `fetch` downloads into the workspace's folder of weights and resumes an interrupted
    transfer; for a checkpoint that can only be fetched by hand, it names the page and where to save it. `check`
    downloads nothing, and compares each file with its published hash, or else with the hash of the first file seen.
    """
    from wtal.pipeline.inspection.weights import check_weights, fetch_weights  # late: torch, which --help does not need

    act = fetch_weights if action == "fetch" else check_weights
    files = {name: str(act(name)) for name in names}
    if as_json:
        print_json(files)
    else:
        click.echo("\n".join(files.values()))
