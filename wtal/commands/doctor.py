"""`wtal doctor`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.pipeline.workspace import Workspace


@click.command("doctor", cls=Command, short_help="What this machine has: readers, flow, GPU, weights, disk.")
@workspace_option
@json_option
def command(workspace: Path, as_json: bool) -> None:
    """Report which parts of wtal can be used on this machine, and why the rest cannot."""
    from wtal.pipeline.inspection.doctor import examine  # late: it needs torch, which --help and shells do not

    report = examine(Workspace(workspace))
    if as_json:
        print_json(report)
        return
    for part, lines in report.items():
        click.echo(part)
        for name, value in lines.items():
            click.echo(f"  {name:<22} {value}")
