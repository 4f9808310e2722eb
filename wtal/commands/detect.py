"""`wtal detect`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    localize_set_option,
    pick_device,
    print_json,
    workspace_option,
)
from wtal.pipeline.detect import detect
from wtal.pipeline.runs import open_runs
from wtal.pipeline.workspace import Workspace


@click.command("detect", cls=Command, short_help="A trained head -> class activations -> detections.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--use-labels", is_flag=True, help="Look in a labelled video only for its own classes.")
@click.option("--streams", metavar="NAME", help="fused, union or a stream: short for --set localize.streams=NAME.")
@click.option("--stage", type=click.IntRange(0), help="Parameters at the end of a stage of training, from 0.")
@localize_set_option
@device_option
@workspace_option
@json_option
def command(
    run: Path | None,
    use_labels: bool,
    streams: str | None,
    stage: int | None,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Detect in every video of a run's store and print the detection files.

    RUN is a run or one of its seeds; without it, the newest finished one. Class activations are kept: localization
    can be done again in seconds with --set localize.KEY=VALUE.
    """
    seeds = open_runs(run or Workspace(workspace).newest_run())
    reporter, chosen = ConsoleReporter(), pick_device(device)
    settings = with_streams(assignments, streams)
    files = [detect(seed, seed.localize(settings), use_labels, None, chosen, reporter, stage) for seed in seeds]
    if as_json:
        print_json({"detections": [str(file) for file in files]})
    else:
        click.echo("\n".join(map(str, files)))


def with_streams(assignments: tuple[str, ...], streams: str | None) -> tuple[str, ...]:
    """Return overrides of localization, and what `--streams` is short for."""
    return assignments if streams is None else (*assignments, f'localize.streams="{streams}"')
