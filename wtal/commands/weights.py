"""`wtal weights`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.commands._near import Choice


@click.command("weights", cls=Command, resumes=True, short_help="Published checkpoints: fetched, or checked.")
@click.argument("action", type=Choice(["fetch", "check"]))
@click.argument("names", nargs=-1, required=True, metavar="BACKBONE:NAME...")
@workspace_option
@json_option
def command(action: str, names: tuple[str, ...], workspace: Path, as_json: bool) -> None:
    """Fetch published checkpoints, or check those that are there, and print where they lie.

    `wtal list weights` names them. `fetch` downloads into the workspace's folder of weights and resumes a transfer that
    broke off; what only a person can fetch is named with its page and its place. `check` downloads nothing, and holds
    each file against its published hash, or against that of the first file that came.
    """
    from wtal.pipeline.inspection.weights import check_weights, fetch_weights  # late: torch, which --help needs not

    act = fetch_weights if action == "fetch" else check_weights
    files = {name: str(act(name)) for name in names}
    if as_json:
        print_json(files)
    else:
        click.echo("\n".join(files.values()))
