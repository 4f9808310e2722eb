"""`wtal submit`."""

import sys
from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace
from wtal.data.kinds import detections_in
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.eval.challenges import CHALLENGES
from wtal.pipeline.exchange.submit import check, submit
from wtal.pipeline.runs import open_run
from wtal.pipeline.workspace import Workspace


@click.command("submit", cls=Command, short_help="Write a challenge file, or check one.")
@click.argument("source", required=False, type=InWorkspace("runs"), metavar="[RUN|FILE]")
@click.option("--challenge", type=Choice(CHALLENGES.names()), help="Challenge whose rules to follow.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: one in the workspace."
)
@click.option("--check", "to_check", type=click.Path(path_type=Path), help="Check this file and write nothing.")
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file that lists the videos and classes."
)
@click.option("--subset", help="Subset to submit. Default: the one that the run reports on.")
@click.option("--results-only", is_flag=True, help="Write `results` alone, without version and external_data.")
@click.option("--external-data", default="", metavar="TEXT", help="Other data that was used; `none` if none was.")
@click.option(
    "--max-per-video",
    type=click.IntRange(1),
    metavar="N",
    help="Keep only the best N detections of each video. Default: all.",
)
@workspace_option
@json_option
def command(
    source: Path | None,
    challenge: str | None,
    out: Path | None,
    to_check: Path | None,
    annotations: Path | None,
    subset: str | None,
    results_only: bool,
    external_data: str,
    max_per_video: int | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Write the JSON file of a challenge and print its path, or check an existing one.

    Without RUN, the newest finished run is used and named on stderr. Whatever the challenge would refuse is refused
    here, and the first offenders are named. With --check, --challenge is optional if the version in the file identifies
    it.
    """
    if to_check is not None:
        if source or out or external_data or max_per_video or results_only:
            raise UsageError("--check only checks a file; leave out the options for writing one")
        report = check(to_check, challenge, annotations, subset)
        if as_json:
            print_json(report.to_json())
        else:
            click.echo(readable(report.to_text()))
        sys.exit(0 if report.ok else 1)
    if challenge is None:
        raise UsageError(f"name the challenge: --challenge {'|'.join(CHALLENGES.names())}")
    if source is None:
        source = Workspace(workspace).newest_run()
        click.echo(f"submitting the newest finished run, {source}", err=True)
    submission = submit(
        open_run(source) if detections_in(source).is_dir() else source,
        challenge,
        Workspace(workspace),
        out,
        annotations,
        subset,
        results_only,
        external_data=external_data,
        most=max_per_video,
    )
    for line in submission.warnings:
        click.echo(line, err=True)
    if as_json:
        print_json({"submission": str(submission.path), "warnings": submission.warnings})
    else:
        click.echo(submission.path)
