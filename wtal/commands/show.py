"""`wtal show`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json
from wtal.commands._types import InWorkspace
from wtal.pipeline.inspection.show import describe, to_text


@click.command("show", cls=Command, short_help="Show the contents of a store, a run or a file.")
@click.argument("source", type=InWorkspace("runs"), metavar="STORE|RUN|FILE")
@click.option("--all", "everything", is_flag=True, help="Show every setting of a run.")
@json_option
def command(source: Path, everything: bool, as_json: bool) -> None:
    """Describe a feature store, a run, a packed model, an annotation file, a detection file or a video.

    For a run, only settings that differ from its recipe are shown, or from the defaults if the recipe is not one of
    `wtal list recipes`; --all shows every setting.
    """
    description = describe(source)
    if as_json:
        print_json(description)
    else:
        click.echo(to_text(description, everything))
