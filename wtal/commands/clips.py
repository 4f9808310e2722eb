"""`wtal clips`."""

import sys
from pathlib import Path

import click
from joblib import cpu_count

from wtal.commands._console import FINISHED_WITH_FAILURES, JOBS, Command, ConsoleReporter, json_option, print_json
from wtal.data.video_ids import readable
from wtal.pipeline.viewing.clips import cut_clips
from wtal.report.selection import Selection

_SHOWN = 20
"""Notes and failures that are printed, at most."""


@click.command("clips", cls=Command, short_help="Detections -> a clip of each with its sound, and a reel of the best.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|DETECTIONS")
@click.option("--videos", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the videos.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@click.option("--reencode", is_flag=True, help="Encode anew, exact; else copy, from the keyframe before.")
@click.option("--reel", type=click.IntRange(1), metavar="N", help="Also write a reel of the best N with titles.")
@click.option("--min-score", type=float, help="Leave out detections with lower scores.")
@click.option("--classes", default="", metavar="NAME[,NAME...]", help="Leave out other classes.")
@click.option("--merge", type=float, metavar="SECONDS", help="Join those of a class with no longer gap between them.")
@click.option("--pad", type=float, default=0.0, metavar="SECONDS", help="Begin earlier and end later, by so much.")
@click.option("--top", type=int, metavar="N", help="Keep the best N of each video.")
@click.option("--jobs", type=JOBS, default=cpu_count, show_default="cores", help="Processes that share the videos.")
@click.option("--force", is_flag=True, help="Replace files that are there and no clips.")
@json_option
def command(
    source: Path,
    videos: Path,
    out: Path,
    reencode: bool,
    reel: int | None,
    min_score: float | None,
    classes: str,
    merge: float | None,
    pad: float,
    top: int | None,
    jobs: int,
    force: bool,
    as_json: bool,
) -> None:
    """Cut each detection out of its video, with sound; print the paths.

    clips.csv says of each clip by how much it begins before its detection. A clip that is there is left alone.
    """
    names = tuple(filter(None, (name.strip() for name in classes.split(","))))
    selection = Selection(min_score, names, merge, pad, top)
    clips = cut_clips(source, out, videos, selection, reencode, reel, force, jobs, ConsoleReporter())
    lines = [f"note: {note}" for note in clips.notes]
    lines += [f"not cut: {video}: {reason}" for video, reason in clips.failures.items()]
    for line in lines[:_SHOWN]:
        click.echo(readable(" ".join(line.split())), err=True)
    if len(lines) > _SHOWN:
        click.echo(f"and {len(lines) - _SHOWN} more; --json has them all", err=True)
    if as_json:
        print_json(clips.to_json())
    else:
        for file in (*clips.files, clips.table, *filter(None, [clips.reel])):
            click.echo(readable(str(file)))
    if clips.failures:
        sys.exit(FINISHED_WITH_FAILURES)
