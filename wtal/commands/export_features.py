"""`wtal export-features`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json
from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace
from wtal.data.layouts import LAYOUTS
from wtal.pipeline.exchange.export_features import export_features


@click.command("export-features", cls=Command, short_help="Export a store as feature files in a published layout.")
@click.argument("store", type=InWorkspace("features"))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", type=Choice(LAYOUTS.names()), required=True, help="Layout of the files.")
@click.option("--streams", default="", metavar="rgb,flow", help="Streams to write, comma-separated. Default: all.")
@click.option(
    "--annotations",
    type=InWorkspace("annotations"),
    help="Annotation file with the subsets, for layouts with one folder per subset.",
)
@json_option
def command(store: Path, out: Path, layout: str, streams: str, annotations: Path | None, as_json: bool) -> None:
    """Export the features of STORE into the new folder OUT, in a layout that other programs read.

    `wtal import-features OUT` restores the store bit for bit: `wtal.json` next to the files keeps ids and grids.
    """
    chosen = [name.strip() for name in streams.split(",") if name.strip()]
    folder = export_features(store, layout, out, chosen, annotations, ConsoleReporter())
    if as_json:
        print_json({"folder": str(folder)})
    else:
        click.echo(str(folder))
