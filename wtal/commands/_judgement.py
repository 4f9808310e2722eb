"""Figures of the judge on the console, alike in all commands that judge."""

import click

from wtal.pipeline.judging.evaluate import Judgement
from wtal.pipeline.judging.tables import csv_table, markdown_table, text_table
from wtal.pipeline.stamps import TUNED

_TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table}
_NOT_LEARNED = "not learned, as held-out labels say"
_RANDOM = "a dry run: features were made with random weights"


def print_notes(judgement: Judgement) -> None:
    """Print on stderr what was left out of the figures, or could surprise."""
    for note in judgement.figures.notes:
        click.echo(note, err=True)


def print_figures(judgement: Judgement, form: str = "text") -> None:
    """Print the table in one of its forms, and below it what a reader must know of its origin; beside CSV on stderr."""
    click.echo(_TABLES[form](judgement.figures))
    if judgement.tuned:
        click.echo(TUNED, err=form == "csv")
    if judgement.not_learned:
        click.echo(f"{_NOT_LEARNED}: {', '.join(judgement.not_learned)}", err=form == "csv")
    if judgement.random:
        click.echo(f"{_RANDOM}: {', '.join(judgement.random)}", err=form == "csv")
