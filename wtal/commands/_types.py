"""Types of options and arguments: numbers, seconds, and names and folders with shell completion."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from wtal.data.parsing.table import clock_seconds
from wtal.pipeline.devices import AUTOMATIC, LARGEST_SEED, MOST_JOBS
from wtal.pipeline.workspace import Workspace, default_workspace

SECONDS = 1e8
"""Maximum seconds accepted by an option: three years."""
JOBS = click.IntRange(1, MOST_JOBS)
SEED = click.IntRange(0, LARGEST_SEED)


class AutomaticJobs(click.ParamType):  # type: ignore[type-arg]  # takes arguments from click 8.4 on alone
    """A number of processes, or auto: the fastest number on this machine."""

    name = "jobs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        if value in ("auto", AUTOMATIC):
            return AUTOMATIC
        if isinstance(value, str) and not value.strip().lstrip("-").isdecimal():
            self.fail(f"{value!r} is neither a whole number from 1 to {MOST_JOBS} nor auto", param, ctx)
        number: int = JOBS.convert(value, param, ctx)
        return number


class Number(click.FloatRange):
    """A finite number in a range."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number."""
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Describe the range for a help text; empty without bounds."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Seconds(click.ParamType):  # type: ignore[type-arg]  # takes arguments from click 8.4 on alone
    """Seconds, as a number or a clock time: 63.5, 1:03.5 or 0:01:03.5."""

    name = "seconds"

    def __init__(self, min_open: bool = False) -> None:
        self.min_open = min_open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the seconds."""
        clock = clock_seconds(value) if isinstance(value, str) else None
        if isinstance(value, str) and ":" in value and clock is None:
            self.fail(f"{value!r} is not a clock time; write seconds, or a time such as 1:03.5 or 1:02:03", param, ctx)
        try:
            seconds = float(value) if clock is None else clock
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= SECONDS or (self.min_open and seconds == 0):
            start = "above 0 and up to" if self.min_open else "from 0 to"
            self.fail(f"{value!r} is not a valid time; give seconds {start} {SECONDS:.0f}, or a clock time", param, ctx)
        return seconds


class Name(click.ParamType):  # type: ignore[type-arg]  # takes arguments from click 8.4 on alone
    """A name checked by the command; shells complete it, even after a comma."""

    name = "text"

    def __init__(self, choices: Callable[[], Iterable[str]]) -> None:
        self.choices = choices

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete names, or files if no name fits."""
        before, comma, last = incomplete.rpartition(",")
        names = [f"{before}{comma}{name}" for name in self.choices() if name.startswith(last)]
        return [*map(CompletionItem, names)] or [CompletionItem(incomplete, type="file")]


class InWorkspace(click.Path):
    """A path; shells complete files and the contents of a part of the workspace, by name or by path.

    `part` names a folder of `Workspace`: runs, features or annotations.
    """

    def __init__(self, part: str) -> None:
        super().__init__(path_type=Path)
        self.part = part

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete files, runs, stores or annotations."""
        folder: Path = getattr(Workspace(_workspace(ctx)), self.part)
        paths = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
        fitting = [str(path) for path in paths if path.name.startswith(incomplete) or str(path).startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *map(CompletionItem, fitting)]


def _workspace(ctx: click.Context) -> Path:
    return Path(ctx.params.get("workspace") or default_workspace())
