"""`wtal diagnose`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json
from wtal.commands._near import Choice
from wtal.commands._question import question_options
from wtal.commands._types import SEED, InWorkspace, Number
from wtal.errors import UsageError
from wtal.eval.diagnosis.characteristics import BUCKETS
from wtal.pipeline.judging.diagnose import Show, diagnose
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.judging.tables import text_table


@click.command("diagnose", cls=Command, short_help="Diagnose detections: a page of errors and their costs.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|FILE")
@question_options
@click.option(
    "--at",
    type=Number(0, 1, min_open=True),
    metavar="TIOU",
    help="tIoU threshold of most figures. Default: the one nearest to 0.5.",
)
@click.option(
    "--buckets", type=Choice(BUCKETS), help="Edges of the buckets XS to XL. Default: those of the protocol's dataset."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the page. Default: RUN/diagnosis, or FILE-diagnosis."
)
@click.option(
    "--videos", metavar="ID,ID,...", help="Videos to draw (runs only). Default: the best, the median and the worst."
)
@click.option(
    "--seed", type=SEED, metavar="N", default=0, show_default=True, help="Seed for choosing the embedded snippets."
)
@click.option(
    "--errors-only", is_flag=True, help="Leave out pictures of videos, features and pseudo labels (runs only)."
)
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
    """Explain the score of detections on a page: index.html, with its pictures as PNG files.

    The page shows false positives by kind and what each kind costs in mAP, results by length, coverage and number of
    annotations, missed annotations, and precision-recall curves; diagnosis.json holds the same figures. For a run it
    also shows how the head sees its features: activations next to annotations, failure cases, embedded snippets,
    pseudo labels.
    """
    if errors_only and videos:
        raise UsageError("--videos chooses pictures, and --errors-only leaves them out; give one of the two")
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
