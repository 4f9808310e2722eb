"""`wtal diagnose`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json
from wtal.commands._near import Choice
from wtal.commands._question import question_options
from wtal.commands._types import SEED, InWorkspace, Number
from wtal.errors import UsageError
from wtal.eval.characteristics import BUCKETS
from wtal.pipeline.judging.diagnose import Show, diagnose
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.judging.tables import text_table


@click.command("diagnose", cls=Command, short_help="Detections and annotations -> a page of errors and their costs.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|FILE")
@question_options
@click.option(
    "--at",
    type=Number(0, 1, min_open=True),
    metavar="TIOU",
    help="Threshold of most figures. Default: the nearest to 0.5.",
)
@click.option("--buckets", type=Choice(BUCKETS), help="Edges of XS to XL. Default: the protocol's collection.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder. Default: RUN/report, or FILE's name and -report.")
@click.option("--videos", metavar="ID,ID,...", help="Runs only: videos to draw. Default: best, median and worst.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the embedded snippets.")
@click.option("--errors-only", is_flag=True, help="Runs only: no pictures of videos, features and pseudo labels.")
@json_option
def command(
    source: Path,
    question: Question,
    at: float | None,
    buckets: str | None,
    out: Path | None,
    videos: str | None,
    seed: int,
    errors_only: bool,
    as_json: bool,
) -> None:
    """Tell why detections score what they score, on a page of its own: index.html, and its pictures as PNG.

    False positives by kind and what each kind costs in mAP, how long, short, few and many annotations fare, what is
    missed, and the judge's curves. What stands on the page is in diagnosis.json too. Of a run also what its head sees:
    activations against annotations, failure cases, embedded snippets, pseudo labels; for these its features are read.
    """
    if errors_only and videos:
        raise UsageError("--videos is of the pictures that --errors-only leaves out")
    show = (
        None if errors_only else Show(tuple(part.strip() for part in (videos or "").split(",") if part.strip()), seed)
    )
    diagnosis = diagnose(source, question, at, buckets, out, show, ConsoleReporter())
    for note in diagnosis.figures.notes:
        click.echo(note, err=True)
    if as_json:
        print_json(diagnosis.value)
        return
    click.echo(text_table(diagnosis.figures))
    for stamp in diagnosis.stamps:
        click.echo(stamp)
    click.echo(diagnosis.page)
