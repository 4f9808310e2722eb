"""`wtal demo`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
)
from wtal.commands.extract import finish
from wtal.commands.run import show_result
from wtal.commands.train import parse_seeds
from wtal.pipeline.devices import pick_device


@click.command("demo", cls=Command, short_help="The whole chain on a small collection that it renders itself.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for its videos and its workspace.",
)
@click.option("--seeds", default="0", show_default=True, metavar="0,1,2", help="One run per seed.")
@device_option
@json_option
def command(out: Path, seeds: str, device: str, as_json: bool) -> None:
    """Render a small collection of videos, find its actions, and judge what was found. No download.

    Renders mp4s whose actions are told apart by motion, extracts their features without weights, trains a head from
    video-level labels, detects, evaluates, and writes a HACS file. A second call uses what is there.
    """
    from wtal.pipeline.demo import demo

    result = demo(out, parse_seeds(seeds), pick_device(device), ConsoleReporter())
    show_result(result, as_json)
    finish(result.extracted)
