"""`wtal clips`."""

import sys
from pathlib import Path

import click
from joblib import cpu_count

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    json_option,
    print_json,
    print_lines,
)
from wtal.commands._selection import selection_options
from wtal.commands._types import JOBS, InWorkspace
from wtal.data.video_ids import readable
from wtal.pipeline.viewing.clips import cut_clips
from wtal.report.selection import Selection


@click.command(
    "clips",
    cls=Command,
    resumes=True,
    short_help="Cut a clip of each detection, and a reel of the best.",
)
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|DETECTIONS")
@click.option(
    "--videos", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder that holds the videos."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the clips.")
@click.option(
    "--reencode",
    is_flag=True,
    help="Re-encode and cut exactly. Otherwise streams are copied, from the preceding keyframe.",
)
@click.option(
    "--reel", type=click.IntRange(1), metavar="N", help="Also write a reel of the best N detections, with titles."
)
@selection_options
@click.option(
    "--jobs",
    type=JOBS,
    metavar="N",
    default=cpu_count,
    help="Number of processes that share the videos. Default: one per core.",
)
@click.option("--force", is_flag=True, help="Replace existing files even if they are not clips.")
@json_option
def command(
    source: Path,
    videos: Path,
    out: Path,
    reencode: bool,
    reel: int | None,
    selection: Selection,
    jobs: int,
    force: bool,
    as_json: bool,
) -> None:
    """Cut each detection out of its video, with sound, and print the paths.

    clips.csv lists the seconds by which each clip begins before its detection. Existing clips are left alone.
    """
    clips = cut_clips(source, out, videos, selection, reencode, reel, force, jobs, ConsoleReporter())
    lines = [f"note: {note}" for note in clips.notes]
    lines += [f"not cut: {video}: {reason}" for video, reason in clips.failures.items()]
    print_lines(lines)
    if as_json:
        print_json(clips.to_json())
    else:
        for file in (*clips.files, clips.table, *filter(None, [clips.reel])):
            click.echo(readable(str(file)))
    if clips.failures:
        sys.exit(FINISHED_WITH_FAILURES)
