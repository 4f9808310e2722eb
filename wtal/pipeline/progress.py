"""Progress reports of a stage; scripts use the silent form."""

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """Counter of one stage."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units as done; `note` is a short state to display with them."""


class Reporter:
    """Silent reporter. The command line passes one that draws bars on stderr."""

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """Begin a stage of `total` units."""
        yield Task()

    def say(self, text: str) -> None:
        """Print one line for the user."""


SILENT = Reporter()
