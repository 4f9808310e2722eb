"""`wtal doctor`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.pipeline.workspace import Workspace


@click.command("doctor", cls=Command, short_help="Check this machine: readers, flow, GPU, weights, disk.")
@workspace_option
@json_option
def command(workspace: Path, as_json: bool) -> None:
    """Check which parts of wtal work on this machine, and say why the others do not."""
    from wtal.pipeline.inspection.doctor import examine  # late: it needs torch, which --help and shells do not

    report = examine(Workspace(workspace))
    if as_json:
        print_json(report)
        return
    for part, lines in report.items():
        click.echo(part)
        for name, value in lines.items():
            click.echo(f"  {name:<22} {value}")
