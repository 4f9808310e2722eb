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


@click.command("export", cls=Command, short_help="Detections -> files of editors, players and labelling programs.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|FILE")
@click.option(
    "--to",
    "formats",
    type=Name(EXPORTS.names),
    required=True,
    metavar="NAME[,NAME...]",
    help="Formats, of `wtal list exports`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write into.  [default: exports in the run, or FILE-exports]",
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the videos: clocks and frame rates are read there.",
)
@selection_options
@click.option("--into-copies", is_flag=True, help="With --to chapters: write them into copies of the videos too.")
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
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
    """Write detections in the formats of other programs; print the paths.

    Times are those a player shows. What a format cannot hold is joined or left out, and a line on stderr says so.
    """
    names = names_of(formats)
    if not names:
        raise UsageError(f"--to names formats: {', '.join(EXPORTS.names())}")
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
    """Return a line for each format and reason, with the videos that it is true of."""
    videos: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (name, video), reason in written.failures.items():
        videos[name, reason].append(video)
    return [f"not exported as {name}: {named(of_reason)}: {reason}" for (name, reason), of_reason in videos.items()]
