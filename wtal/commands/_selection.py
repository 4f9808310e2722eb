"""Options that select detections of a run or a file."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from wtal.commands._types import Number, Seconds
from wtal.report.selection import Selection

_CHOSEN = (
    click.option("--min-score", type=Number(), help="Leave out detections with a lower score."),
    click.option("--classes", default="", metavar="NAME[,NAME...]", help="Keep only these classes."),
    click.option(
        "--merge",
        type=Seconds(),
        metavar="SECONDS",
        help="Join detections of one class that are at most this far apart.",
    ),
    click.option(
        "--pad", type=Seconds(), default=0.0, metavar="SECONDS", help="Extend each detection by this much at both ends."
    ),
    click.option("--top", type=click.IntRange(1), metavar="N", help="Keep only the best N detections of each video."),
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
    """Split names at commas, without surrounding spaces and empty names."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))
