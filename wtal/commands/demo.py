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


@click.command("demo", cls=Command, resumes=True, short_help="Try the whole chain on videos that it renders itself.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for the videos and the workspace.",
)
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="0,1,2",
    help="Seeds of training, comma-separated; one run per seed.",
)
@device_option
@json_option
def command(out: Path, seeds: str, device: str, as_json: bool) -> None:
    """Render a small collection of videos, detect its actions and evaluate the detections.

    Nothing is downloaded. The videos show actions that differ in their motion. Their features are extracted without
    weights, a head is trained from video-level labels, and a HACS file is written. A second call reuses the results.
    """
    from wtal.pipeline.demo import demo

    result = demo(out, parse_seeds(seeds), pick_device(device), ConsoleReporter())
    show_result(result, as_json)
    finish(result.extracted)
