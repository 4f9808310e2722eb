"""`wtal import-features`."""

import sys
from pathlib import Path

import click

from wtal.cli._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    json_option,
    print_json,
    workspace_option,
)
from wtal.errors import UsageError
from wtal.pipeline.import_features import DEFAULT_LAYOUT, import_features
from wtal.pipeline.workspace import Workspace
from wtal.registry import LAYOUTS


@click.command("import-features", cls=Command, short_help="Published features -> a store.")
@click.argument("features", type=click.Path(path_type=Path))
@click.option("--annotations", type=click.Path(path_type=Path), required=True, help="Labels that name the videos.")
@click.option("--layout", type=click.Choice(LAYOUTS.names()), default=DEFAULT_LAYOUT, show_default=True, help="Of it.")
@click.option("--backbone", default="i3d", show_default=True, metavar="NAME", help="What the features were made with.")
@click.option("--fps", default="", metavar="RATE", help="Frames per second. Default: the layout's own.")
@click.option("--stride", default="", metavar="FRAMES", help="Frames of a row. Default: the layout's own.")
@click.option("--dims", default="", metavar="rgb=D,flow=D", help="Columns of each stream. Default: two halves.")
@workspace_option
@json_option
def command(
    features: Path,
    annotations: Path,
    layout: str,
    backbone: str,
    fps: str,
    stride: str,
    dims: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Put a published file of features into a store of the workspace, and print its folder.

    Object arrays are read without executing pickled code. An interrupted import goes on where it was. Exits with 3 when
    some videos could not be imported.
    """
    reporter, place = ConsoleReporter(), Workspace(workspace)
    made = import_features(
        features, annotations, place, layout, backbone, fps, stride, parse_dims(dims), reporter=reporter
    )
    if as_json:
        print_json({"store": str(made.store), "failures": made.failures})
    else:
        click.echo(str(made.store))
    if made.failures:
        sys.exit(FINISHED_WITH_FAILURES)


def parse_dims(text: str) -> dict[str, int]:
    """`rgb=1024,flow=1024` -> stream -> width.

    Raises:
        UsageError: when a part is not NAME=WIDTH.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, width = part.partition("=")
        if not (name.strip() and equals and width.strip().isdecimal() and int(width)):
            raise UsageError(f"--dims takes NAME=WIDTH with commas, such as rgb=1024,flow=1024; got {text!r}")
        found[name.strip()] = int(width)
    return found
