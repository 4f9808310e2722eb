"""`wtal export`."""

import sys
from collections import defaultdict
from pathlib import Path

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    json_option,
    print_json,
    print_lines,
)
from wtal.commands._selection import names_of, selection_options
from wtal.commands._types import InWorkspace, Name
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.pipeline.exchange.export_detections import Exports, export, named
from wtal.report.exports import EXPORTS
from wtal.report.selection import Selection


@click.command("export", cls=Command, short_help="Export detections to editors, players and other programs.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|FILE")
@click.option(
    "--to",
    "formats",
    type=Name(EXPORTS.names),
    required=True,
    metavar="NAME[,NAME...]",
    help="Formats to write, comma-separated; `wtal list exports` names them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files. Default: exports in the run, or FILE-exports.",
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds the videos, to read their clocks and frame rates.",
)
@selection_options
@click.option(
    "--into-copies", is_flag=True, help="Also write the chapters into copies of the videos (with --to chapters)."
)
@click.option("--force", is_flag=True, help="Replace existing files even if their content differs.")
@json_option
def command(
    source: Path,
    formats: str,
    out: Path | None,
    videos: Path | None,
    selection: Selection,
    into_copies: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write detections in the formats of other programs, and print the paths.

    Times are those shown by players. Whatever a format cannot hold is merged or omitted, with a note on stderr.
    """
    names = names_of(formats)
    if not names:
        raise UsageError(f"--to takes one or more formats, got none; choices: {', '.join(EXPORTS.names())}")
    written = export(source, names, out, selection, videos, force, ConsoleReporter(), into_copies)
    print_lines([f"note: {note}" for note in written.notes])
    print_lines(_failure_lines(written))
    if as_json:
        print_json(written.to_json())
    else:
        for file in written.files:
            click.echo(readable(str(file)))
    if written.failures:
        sys.exit(FINISHED_WITH_FAILURES)


def _failure_lines(written: Exports) -> list[str]:
    """Return a line for each format and reason, with the videos concerned."""
    videos: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (name, video), reason in written.failures.items():
        videos[name, reason].append(video)
    return [f"not exported as {name}: {named(of_reason)}: {reason}" for (name, reason), of_reason in videos.items()]
