"""`wtal evaluate`."""

from pathlib import Path

import click

from wtal.commands._console import Command, ConsoleReporter, json_option, print_json, refuse_unless
from wtal.commands._judgement import print_figures, print_notes
from wtal.commands._near import Choice
from wtal.commands._question import question_options
from wtal.commands._types import SEED, InWorkspace
from wtal.errors import UsageError
from wtal.eval.bootstrap import DRAWS
from wtal.pipeline.judging.evaluate import (
    TASKS,
    Judgement,
    compare_sources,
    evaluate,
    judge_labels,
    judge_proposals,
)
from wtal.pipeline.judging.sources import Question, only_source, sources
from wtal.pipeline.judging.tables import FORMATS
from wtal.pipeline.progress import Reporter
from wtal.report.page import write_pictures
from wtal.report.style import drawable

DETECTION, PROPOSALS, CLASSIFICATION = TASKS


@click.command("evaluate", cls=Command, short_help="Evaluate detections: mAP and other figures.")
@click.argument("source", type=InWorkspace("runs"), metavar="RUN|FILE")
@question_options
@click.option("--task", type=Choice(TASKS), default=DETECTION, show_default=True, help="Kind of result to judge.")
@click.option(
    "--against",
    type=InWorkspace("runs"),
    metavar="RUN|FILE",
    help="Compare with these detections, with confidence intervals.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    default=DRAWS,
    show_default=True,
    help="Number of bootstrap resamples (with --against).",
)
@click.option(
    "--seed", type=SEED, metavar="N", default=0, show_default=True, help="Seed of the resamples (with --against)."
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Draw the figures into this folder, as PNG files.",
)
@click.option("--format", "form", type=Choice(FORMATS), default="text", show_default=True, help="Format of the table.")
@json_option
def command(
    source: Path,
    question: Question,
    task: str,
    against: Path | None,
    draws: int,
    seed: int,
    plots: Path | None,
    form: str,
    as_json: bool,
) -> None:
    """Evaluate detections: mAP by ActivityNet's official definition, or by another protocol.

    `wtal list protocols` describes the protocols. --against compares two files on the same resampled videos. --task
    judges detections as class-agnostic proposals, or the scores of whole videos.
    """
    refuse_unless("--against", against is not None, "draws", "seed")
    reporter = ConsoleReporter()
    if plots is not None:
        if against is not None or task == CLASSIFICATION:
            raise UsageError(
                "--plots draws detections and proposals; leave it out with --against and --task classification"
            )
        drawable()
    if against is None:
        judgement = _judged(source, question, task, reporter)
    elif task == DETECTION:
        judgement = compare_sources(source, against, question, draws, seed, reporter)
    else:
        raise UsageError(f"--against compares detections, not {task}")
    print_notes(judgement)
    for path in write_pictures(judgement.pictures(reporter), plots) if plots is not None else ():
        click.echo(f"drawn: {path}", err=True)
    if as_json or form == "json":
        print_json(judgement.to_json())
        return
    print_figures(judgement, form)


def _judged(source: Path, question: Question, task: str, reporter: Reporter) -> Judgement:
    if task == DETECTION:
        return evaluate(sources(source, question), question, reporter)
    judge = judge_proposals if task == PROPOSALS else judge_labels
    return judge(only_source(source, question), question, reporter)
