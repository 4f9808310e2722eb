"""`wtal detect`."""

from pathlib import Path

import click

from wtal.cli._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    pick_device,
    print_json,
    set_option,
    workspace_option,
)
from wtal.pipeline.detect import detect, localize_settings
from wtal.pipeline.workspace import Workspace, seed_folders


@click.command("detect", cls=Command, short_help="A trained head -> class activations -> detections.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--use-labels", is_flag=True, help="Look in a labelled video only for its own classes.")
@set_option
@device_option
@workspace_option
@json_option
def command(
    run: Path | None, use_labels: bool, assignments: tuple[str, ...], device: str, workspace: Path, as_json: bool
) -> None:
    """Detect in every video of a run's store and print the detection files.

    RUN is a run or one of its seeds; without it, the newest finished one. Class activations are kept: localization
    can be done again in seconds with --set localize.KEY=VALUE.
    """
    folders = seed_folders(run or Workspace(workspace).newest_run())
    reporter = ConsoleReporter()
    files = [
        detect(
            folder, localize_settings(folder, assignments), use_labels, device=pick_device(device), reporter=reporter
        )
        for folder in folders
    ]
    if as_json:
        print_json({"detections": [str(file) for file in files]})
    else:
        click.echo("\n".join(map(str, files)))
