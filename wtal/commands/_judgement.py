"""Print figures of an evaluation, in the same way for all commands that evaluate."""

import click

from wtal.pipeline.judging.evaluate import Judgement
from wtal.pipeline.judging.tables import csv_table, markdown_table, text_table
from wtal.pipeline.stamps import TUNED

_TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table}
_NOT_LEARNED = "not learned, as held-out labels say"
_RANDOM = "a dry run: features were made with random weights"


def print_notes(judgement: Judgement) -> None:
    """Print on stderr what the figures leave out, and possible surprises."""
    for note in judgement.figures.notes:
        click.echo(note, err=True)


def print_figures(judgement: Judgement, form: str = "text") -> None:
    """Print the table in one of its forms, followed by remarks on its origin (on stderr if the table is CSV)."""
    click.echo(_TABLES[form](judgement.figures))
    if judgement.tuned:
        click.echo(TUNED, err=form == "csv")
    if judgement.not_learned:
        click.echo(f"{_NOT_LEARNED}: {', '.join(judgement.not_learned)}", err=form == "csv")
    if judgement.random:
        click.echo(f"{_RANDOM}: {', '.join(judgement.random)}", err=form == "csv")
