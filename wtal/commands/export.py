"""`wtal export`."""

import sys
from collections import defaultdict
from pathlib import Path

import click

from wtal.commands._console import FINISHED_WITH_FAILURES, Command, ConsoleReporter, json_option, print_json
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.pipeline.exchange.export_detections import Exports, export, named
from wtal.report.exports import EXPORTS
from wtal.report.selection import Selection

_SHOWN = 20
"""Notes and failures that are printed, at most."""


@click.command("export", cls=Command, short_help="Detections -> files of editors, players and labelling programs.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|FILE")
@click.option("--to", "formats", required=True, metavar="NAME[,NAME...]", help="Formats, of `wtal list exports`.")
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
@click.option("--min-score", type=float, help="Leave out detections with lower scores.")
@click.option("--classes", default="", metavar="NAME[,NAME...]", help="Leave out other classes.")
@click.option("--merge", type=float, metavar="SECONDS", help="Join those of a class with no longer gap between them.")
@click.option("--pad", type=float, default=0.0, metavar="SECONDS", help="Begin earlier and end later, by so much.")
@click.option("--top", type=int, metavar="N", help="Keep the best N of each video.")
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@json_option
def command(
    source: Path,
    formats: str,
    out: Path | None,
    videos: Path | None,
    min_score: float | None,
    classes: str,
    merge: float | None,
    pad: float,
    top: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write detections in the formats of other programs; print the paths.

    Times are those a player shows. What a format cannot hold is joined or left out, and a line on stderr says so.
    """
    names = _names(formats)
    if not names:
        raise UsageError(f"--to names formats: {', '.join(EXPORTS.names())}")
    selection = Selection(min_score, _names(classes), merge, pad, top)
    written = export(source, names, out, selection, videos, force, ConsoleReporter())
    _print_lines([f"note: {note}" for note in written.notes])
    _print_lines(_failure_lines(written))
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


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _print_lines(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        click.echo(readable(" ".join(line.split())), err=True)
    if len(lines) > _SHOWN:
        click.echo(f"and {len(lines) - _SHOWN} more; --json has them all", err=True)
