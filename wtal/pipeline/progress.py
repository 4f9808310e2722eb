"""How a stage tells a person what it is doing; the silent form, which scripts get."""

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """One stage's counter."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more units are done; `note` is a short state to show beside them."""


class Reporter:
    """Tells nothing. The command line passes one that draws bars on stderr."""

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """A stage of `total` units begins."""
        yield Task()

    def say(self, text: str) -> None:
        """One line for a person."""


SILENT = Reporter()
