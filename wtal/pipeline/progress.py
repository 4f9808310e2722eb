"""Progress reports of a stage to a person; scripts get the silent form."""

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """One stage's counter."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units as done; `note` is a short state to show beside them."""


class Reporter:
    """Silent reporter. The command line passes one that draws bars on stderr."""

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """Begin a stage of `total` units."""
        yield Task()

    def say(self, text: str) -> None:
        """Print one line for a person."""


SILENT = Reporter()
