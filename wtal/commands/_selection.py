"""Options that choose among the detections of a run or a file."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from wtal.commands._types import Number, Seconds
from wtal.report.selection import Selection

_CHOSEN = (
    click.option("--min-score", type=Number(), help="Leave out detections with lower scores."),
    click.option("--classes", default="", metavar="NAME[,NAME...]", help="Leave out other classes."),
    click.option(
        "--merge", type=Seconds(), metavar="SECONDS", help="Join those of a class with no longer gap between them."
    ),
    click.option(
        "--pad", type=Seconds(), default=0.0, metavar="SECONDS", help="Begin earlier and end later, by so much."
    ),
    click.option("--top", type=click.IntRange(1), metavar="N", help="Keep the best N of each video."),
)


def selection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a `Selection` (`--min-score`, `--classes`, `--merge`, ...) as `selection`."""

    @wraps(function)
    def chosen(
        min_score: float | None, classes: str, merge: float | None, pad: float, top: int | None, **others: Any
    ) -> None:
        function(selection=Selection(min_score, names_of(classes), merge, pad, top), **others)

    for option in reversed(_CHOSEN):
        option(chosen)
    return chosen


def names_of(text: str) -> tuple[str, ...]:
    """Split names at commas; blanks around them, and empty ones, are left out."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))
