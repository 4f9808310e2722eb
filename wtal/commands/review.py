"""`wtal review`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    Group,
    json_option,
    print_json,
    print_lines,
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._selection import selection_options
from wtal.commands._types import InWorkspace
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.pipeline.review.import_verdicts import Review, import_verdicts
from wtal.pipeline.review.next_verdicts import COUNT, Candidate, next_verdicts
from wtal.pipeline.review.overview import Overview, overview, reviewed_annotations
from wtal.pipeline.viewing.located import locate
from wtal.pipeline.workspace import Workspace
from wtal.report.export_text import clock_text
from wtal.report.imports import IMPORTS
from wtal.report.selection import Selection

_MANY = 1_000_000
_SOURCE = click.argument("source", required=False, type=InWorkspace("runs"), metavar="[RUN|DETECTIONS]")
_COUNTED = click.IntRange(1, _MANY)


@click.group(
    "review",
    cls=Group,
    invoke_without_command=True,
    short_help="Show or import verdicts, or choose what to review next.",
)
@click.option(
    "--next",
    "count",
    type=_COUNTED,
    metavar="N",
    help="List the N detections whose verdicts would teach the most, as `next` does.",
)
@workspace_option
@json_option
@click.pass_context
def command(ctx: click.Context, count: int | None, workspace: Path, as_json: bool) -> None:
    """Show a workspace's verdicts and what they teach, import verdicts, or list detections to review.

    Verdicts are given on the page of `wtal report`, or in a program that `wtal export` writes files for. The next
    `wtal run` uses them.
    """
    if ctx.invoked_subcommand is not None:
        if count is not None or as_json:
            raise UsageError(f"leave out --next, and write --json after the command {ctx.invoked_subcommand!r}")
    elif count is not None:
        _show_next(None, count, Workspace(workspace), as_json)
    else:
        _show_overview(overview(Workspace(workspace)), as_json)


@command.command("import", cls=Command, short_help="Import corrections made in another program as verdicts.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|DETECTIONS")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--from",
    "program",
    type=Choice(IMPORTS.names()),
    help="Program that wrote the files. Default: recognized from their content.",
)
@click.option("--looked-at", is_flag=True, help="Treat all videos in the files as watched to the end.")
@click.option("--replace", is_flag=True, help="Drop earlier verdicts on the videos of the files, to withdraw answers.")
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds the videos, as for the export.",
)
@selection_options
@json_option
def import_command(
    source: Path,
    files: tuple[Path, ...],
    program: str | None,
    looked_at: bool,
    replace: bool,
    videos: Path | None,
    selection: Selection,
    as_json: bool,
) -> None:
    """Compare files with what `wtal export` wrote for the source, and save every change as a verdict.

    Choose detections with the same options as for the export: those that were not exported must not count as deleted. A
    video that is unchanged and not marked as looked at yields no verdict.
    """
    review = import_verdicts(source, files, program, looked_at, selection, videos, ConsoleReporter(), replace)
    print_lines([f"note: {note}" for note in review.notes])
    if as_json:
        print_json(review.to_json())
    else:
        _show_review(review)


@command.command("next", cls=Command, short_help="List the detections whose verdicts would teach the most.")
@_SOURCE
@click.option("--count", type=_COUNTED, default=COUNT, show_default=True, help="Number of detections to list.")
@workspace_option
@json_option
def next_command(source: Path | None, count: int, workspace: Path, as_json: bool) -> None:
    """List the detections whose verdicts would teach the most, and the page on which to give them.

    First come those with a score near the middle of their class, in videos without labels or with labels that
    disagree, spread over videos and classes. Without a source, the newest run of the workspace is used.
    """
    _show_next(source, count, Workspace(workspace), as_json)


@command.command("show", cls=Command, short_help="Show counts of verdicts, and what they teach.")
@_SOURCE
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file. Default: the workspace's only one."
)
@workspace_option
@json_option
def show_command(source: Path | None, annotations: Path | None, workspace: Path, as_json: bool) -> None:
    """Show the number of verdicts per class, the videos that were looked at, and what the next training will learn."""
    _show_overview(overview(Workspace(workspace), source, annotations), as_json)


@command.command(
    "annotations", cls=Command, short_help="Write verdicts as annotations with times, for evaluation and tuning."
)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="RUN|DETECTIONS",
    help="Source of the verdicts. Default: the workspace's.",
)
@workspace_option
def annotations_command(out: Path, source: Path | None, workspace: Path) -> None:
    """Write the segments of the videos that were looked at as annotations, for `wtal evaluate` and `wtal tune`.

    They form the subset `reviewed`. Results tuned with them are marked `tuned with segments`; nothing trains on them.
    """
    click.echo(readable(str(reviewed_annotations(Workspace(workspace), out, source))))


def _show_review(review: Review) -> None:
    print_lines([f"changed: {readable(_named(v.video, v.label))} is now {v.verdict!r}" for v in review.changed])
    if review.untouched:
        videos = ", ".join(map(readable, review.untouched[:3])) + (", ..." if len(review.untouched) > 3 else "")
        print_lines(
            [
                f"{len(review.untouched)} videos are unchanged ({videos}) and not marked as looked at, so they yield "
                "no verdicts; --looked-at confirms all of their detections"
            ]
        )
    counts = ", ".join(f"{count} {answer}" for answer, count in review.counts.items()) or "none"
    click.echo(f"verdicts    {counts}; {len(review.verdicts.looked_at)} videos looked at")
    click.echo(f"            {readable(str(review.file))}")


def _show_next(source: Path | None, count: int, workspace: Workspace, as_json: bool) -> None:
    located = locate(source or workspace.newest_run())
    candidates = next_verdicts(located, count)
    page = located.page_folder / "index.html"
    if as_json:
        print_json({"next": [candidate.to_json() for candidate in candidates], "page": str(page)})
        return
    width = max((len(readable(candidate.video)) for candidate in candidates), default=0)
    for candidate in candidates:
        click.echo(_line(candidate, width))
    if not candidates:
        click.echo("every detection has a verdict, or its video has been looked at")
    remedy = "" if page.is_file() else f"  (not made yet: wtal report {readable(str(source or located.file))})"
    click.echo(f"page        {readable(str(page))}{remedy}")


def _line(candidate: Candidate, width: int) -> str:
    d = candidate.detection
    start, end = (clock_text(round(1000 * max(0.0, value))) for value in (d.start, d.end))
    video, label = readable(candidate.video), readable(d.label)
    return " ".join(f"{video:<{width}}  {start} - {end}  {label} {d.score:.3g}  ({candidate.reason})".splitlines())


def _show_overview(shown: Overview, as_json: bool) -> None:
    if as_json:
        print_json(shown.to_json())
        return
    for line in shown.lines():
        click.echo(readable(line))


def _named(video: str, label: str) -> str:
    return f"{video}, {label}"
