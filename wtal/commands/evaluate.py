"""`wtal evaluate`."""

from pathlib import Path

import click

from wtal.commands._console import RANDOM, TUNED, Command, ConsoleReporter, json_option, print_json
from wtal.commands._question import question_options
from wtal.errors import UsageError
from wtal.eval.bootstrap import DRAWS
from wtal.pipeline.judging.evaluate import (
    TASKS,
    Question,
    ask_against,
    ask_classification,
    ask_detection,
    ask_proposals,
)
from wtal.pipeline.judging.tables import FORMATS, csv_table, markdown_table, text_table
from wtal.report.page import write_pictures
from wtal.report.style import drawable

_ASK = dict(zip(TASKS, (ask_detection, ask_proposals, ask_classification), strict=True))
_TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table}


@click.command("evaluate", cls=Command, short_help="Detections and annotations -> mAP.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|FILE")
@question_options
@click.option("--task", type=click.Choice(TASKS), default=TASKS[0], show_default=True, help="What is judged.")
@click.option("--against", type=click.Path(path_type=Path), metavar="RUN|FILE", help="Compare with intervals.")
@click.option("--draws", type=click.IntRange(1), default=DRAWS, show_default=True, help="Of --against: resamples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of --against: of the resamples.")
@click.option("--plots", type=click.Path(path_type=Path), metavar="FOLDER", help="Draw the figures into it, as PNG.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of the table.")
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
    """Judge detections: mAP by ActivityNet's official definition, or by another protocol.

    `wtal list protocols` tells the protocols apart. --against compares two files on the same resampled videos;
    --task judges detections as class-agnostic proposals, or the scores of whole videos.
    """
    reporter = ConsoleReporter()
    if plots is not None:
        if against is not None or task == TASKS[2]:
            raise UsageError("--plots draws detections and proposals, neither --against nor classification")
        drawable()
    if against is None:
        answer = _ASK[task](source, question, reporter)
    elif task == TASKS[0]:
        answer = ask_against(source, against, question, draws, seed, reporter)
    else:
        raise UsageError(f"--against compares detections, not {task}")
    for note in answer.figures.notes:
        click.echo(note, err=True)
    for path in write_pictures(answer.draw(), plots) if plots is not None else ():
        click.echo(f"drawn: {path}", err=True)
    if as_json or form == "json":
        print_json(answer.value)
        return
    click.echo(_TABLES[form](answer.figures))
    if answer.tuned:
        click.echo(TUNED, err=form == "csv")
    if answer.random:
        click.echo(f"{RANDOM}: {', '.join(answer.random)}", err=form == "csv")
