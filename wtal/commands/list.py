"""`wtal list`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.commands._near import Choice
from wtal.pipeline.inspection.inventory import KINDS, details, inventory


@click.command("list", cls=Command, short_help="List the choices: heads, recipes, backbones, ...")
@click.argument("kind", type=Choice(KINDS), metavar="KIND")
@workspace_option
@json_option
def command(kind: str, workspace: Path, as_json: bool) -> None:
    """List all choices of one kind, with a line about each."""
    if as_json:
        print_json(details(kind))
        return
    lines = inventory(kind)
    width = max((len(name) for name in lines), default=0)
    for name, line in lines.items():
        click.echo(f"{name:<{width}}  {line}")
