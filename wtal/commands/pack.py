"""`wtal pack`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json
from wtal.commands._types import InWorkspace
from wtal.pipeline.exchange.packed_model import pack_model
from wtal.pipeline.new_videos.model import model_of
from wtal.pipeline.runs import open_run


@click.command("pack", cls=Command, short_help="Pack a run into one file, for detection on other machines.")
@click.argument("run", type=InWorkspace("runs"))
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.wtal")
@json_option
def command(run: Path, model: Path, as_json: bool) -> None:
    """Pack a finished run, or an ensemble with all its members, into one file, and print its path.

    RUN is a run or one of its seeds. The file holds the heads, the scaling of their inputs, the recipe, the class names
    and a description of the features; no code, no pickle, no optimizer state. Use it with
    `wtal detect MODEL.wtal VIDEO...`.
    """
    packed = pack_model(model_of(open_run(run)), model)
    print_json({"model": str(packed), "bytes": packed.stat().st_size}) if as_json else click.echo(packed)
