"""Progress reports of a stage; scripts use the silent form."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], object]
"""Function that takes the name of a stage, the number of its finished units, and their total number."""


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


class ReporterTo(Reporter):
    """Reporter to a function, or to nobody, and to a logger."""

    def __init__(self, progress: Progress | None, logger: logging.Logger) -> None:
        self._progress, self._logger = progress, logger

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """Begin a stage of `total` units."""
        yield Task() if self._progress is None else _Counter(self._progress, name, total)

    def say(self, text: str) -> None:
        """Log one line."""
        self._logger.info("%s", text)


class _Counter(Task):
    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name, self._done, self._total = progress, name, 0, total
        self.advance(0)

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._progress(self._name, self._done, self._total)
