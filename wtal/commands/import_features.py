"""`wtal import-features`."""

import re
import sys
from pathlib import Path

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    json_option,
    print_json,
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace
from wtal.data.layouts import LAYOUTS
from wtal.errors import UsageError
from wtal.pipeline.exchange.import_features import import_features
from wtal.pipeline.workspace import Workspace


@click.command("import-features", cls=Command, resumes=True, short_help="Import published features into a store.")
@click.argument("features", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    type=InWorkspace("annotations"),
    help="Annotation file, for the names or durations of the videos.",
)
@click.option("--layout", type=Choice(LAYOUTS.names()), help="Layout of the files. Default: recognized from the files.")
@click.option(
    "--backbone",
    default="",
    metavar="NAME",
    help="Name of the backbone that computed the features. Default: the layout's own.",
)
@click.option("--fps", default="", metavar="RATE", help="Frames per second. Default: the layout's own.")
@click.option("--stride", default="", metavar="FRAMES", help="Frames per row. Default: the layout's own.")
@click.option(
    "--dims", default="", metavar="rgb=D,flow=D", help="Number of columns of each stream. Default: the layout's own."
)
@workspace_option
@json_option
def command(
    features: Path,
    annotations: Path | None,
    layout: str | None,
    backbone: str,
    fps: str,
    stride: str,
    dims: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Import published features, a file or a folder, into a store of the workspace, and print its folder.

    Object arrays are read without executing pickled code. An interrupted import continues where it stopped. Files from
    `wtal export-features` keep their ids and grids. Exits with 3 if some videos could not be imported.
    """
    reporter, root = ConsoleReporter(), Workspace(workspace)
    imported = import_features(
        features, annotations, root, layout or "", backbone, fps, stride, parse_dims(dims), reporter=reporter
    )
    if as_json:
        print_json({"store": str(imported.store), "failures": imported.failures, "notes": imported.notes})
    else:
        click.echo(str(imported.store))
    if imported.failures:
        sys.exit(FINISHED_WITH_FAILURES)


def parse_dims(text: str) -> dict[str, int]:
    """Parse `rgb=1024,flow=1024` as stream -> width.

    Raises:
        UsageError: when a part is not NAME=WIDTH, or a name occurs twice.
    """
    widths = {}
    for part in filter(None, text.split(",")):
        name, equals, width = part.partition("=")
        if not (name.strip() and equals and re.fullmatch("[1-9][0-9]{0,8}", width.strip())) or name.strip() in widths:
            raise UsageError(
                f"--dims takes one NAME=WIDTH per stream, separated by commas, such as rgb=1024,flow=1024; got {text!r}"
            )
        widths[name.strip()] = int(width)
    return widths
