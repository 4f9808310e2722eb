"""`wtal report`."""

from pathlib import Path
from typing import get_args

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json, print_lines, refuse_unless
from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace
from wtal.data.video_ids import readable
from wtal.pipeline.viewing.copies import Proxies
from wtal.pipeline.viewing.gather import gather
from wtal.pipeline.viewing.serve import serve
from wtal.pipeline.viewing.write_report import write_report


@click.command(
    "report", cls=Command, resumes=True, short_help="Write a page with video players, to watch and judge detections."
)
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|DETECTIONS")
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds the videos, for the page to play.",
)
@click.option("--annotations", type=InWorkspace("annotations"), help="Annotations to show. Default: the run's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the page. Default: report in the run, or FILE-report.",
)
@click.option(
    "--proxies",
    type=Choice(get_args(Proxies)),
    default="needed",
    show_default=True,
    help="Videos to make small copies of: none, those that browsers cannot play, or all.",
)
@click.option(
    "--serve", "serves", is_flag=True, help="Serve the page on 127.0.0.1 and save verdicts as they are given."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to serve on (with --serve). Default: a free one."
)
@json_option
def command(
    source: Path,
    videos: Path | None,
    annotations: Path | None,
    out: Path | None,
    proxies: Proxies,
    serves: bool,
    port: int,
    as_json: bool,
) -> None:
    """Write a folder with a page of all videos and their detections, and print the page's path.

    The page opens from disk in any browser, without a network. With --serve, its address is printed instead.
    """
    refuse_unless("--serve", serves, "port")
    collection = gather(source, videos, annotations=annotations)
    report = write_report(collection, out, proxies, ConsoleReporter())
    print_lines([f"note: {note}" for note in report.notes])
    print_lines([f"not shown: {video}: {reason}" for video, reason in report.unseen.items()])
    if as_json:
        print_json(report.to_json())
    elif not serves:
        click.echo(readable(str(report.page)))
    if serves:
        files = {str(number): video.file for number, video in enumerate(collection.videos) if video.file}
        serve(report.page.parent, collection.verdicts, files, port, lambda address: click.echo(address, err=as_json))
