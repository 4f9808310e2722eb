"""Parts that all commands share: errors in one line, progress on stderr, results on stdout."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

from wtal.commands._exits import one_line
from wtal.commands._near import Near, NearGroup
from wtal.commands._settings import SetOption
from wtal.commands._types import AutomaticJobs
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.pipeline.progress import Reporter, Task
from wtal.pipeline.workspace import default_workspace

Function = TypeVar("Function", bound=Callable[..., Any])

FINISHED_WITH_FAILURES = 3
_LINES = 20
"""Maximum number of notes or failures printed."""


class Command(Near):
    """A command with `--debug`; without it, an error of ours is printed in one line, with its exit code.

    With `resumes`, a message after Ctrl-C says that the same call continues.
    """

    def __init__(self, *args: Any, resumes: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resumes = resumes
        self.params.append(_debug_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does; `--set help` needs nothing else, prints the settings and ends the call."""
        asked = [each for each in self.params if isinstance(each, SetOption) and each.asked_by(args)]
        ctx.resilient_parsing = ctx.resilient_parsing or bool(asked)
        rest = super().parse_args(ctx, args)
        for option in asked:
            with one_line():
                option.print_settings(ctx)
            ctx.exit()
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error of ours in one line."""
        with one_line(self.resumes):
            return super().invoke(ctx)


class Group(NearGroup):
    """A command with sub-commands; otherwise like `Command`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command or a sub-command; print an error of ours in one line."""
        with one_line():
            return super().invoke(ctx)


def _debug_option() -> click.Option:
    return click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: RichTask) -> Text:
        unit = task.fields["unit"]
        return Text(_per_second(task.speed, unit) if task.speed else f"- {unit}/s", style="dim")


def _per_second(rate: float, unit: str) -> str:
    return f"{rate:.{1 if rate >= 1 else 3}f} {unit}/s"


class _Bar(Task):
    def __init__(self, progress: Progress, index: Any) -> None:
        self.progress, self.index = progress, index

    def advance(self, count: int = 1, note: str = "") -> None:
        self.progress.update(self.index, advance=count, note=note)


class _Lines(Task):
    """Progress in logs: a line with the rate and the time left after every tenth."""

    def __init__(self, console: Console, name: str, total: int, unit: str) -> None:
        self.console, self.name, self.total, self.unit = console, name, total, unit
        self.done = self.before = 0
        self.started = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        if not self.done:
            self.before = count - 1  # units that an earlier call has done count for no speed
        last, self.done = self.done, self.done + count
        if self.done * 10 // max(self.total, 1) > last * 10 // max(self.total, 1):
            line = f"{self.name}: {self.done}/{self.total} {self.unit}s{self._speed()} {note}".rstrip()
            self.console.print(line, soft_wrap=True)

    def _speed(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = (self.done - self.before) / seconds
        if rate <= 0:
            return ""
        left = timedelta(seconds=math.ceil(max(self.total - self.done, 0) / rate))
        return f", {_per_second(rate, self.unit)}, {left} left"


class ConsoleReporter(Reporter):
    """Reporter on stderr: bars with rate and time left on a terminal, a line per tenth elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._progress: Progress | None = None

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        if not self.console.is_terminal:
            yield _Lines(self.console, name, total, unit)
        elif self._progress is not None:  # within another task: a bar below its own, for as long as it lasts
            index = self._progress.add_task(name, total=total, unit=unit, note="")
            try:
                yield _Bar(self._progress, index)
            finally:
                self._progress.remove_task(index)
        else:
            yield from self._alone(name, total, unit)

    def _alone(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """Yield a task that is not inside another one."""
        title, note = (
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[note]}", "dim", markup=False),
        )
        columns = (title, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), note)
        with Progress(*columns, console=self.console) as progress:
            self._progress = progress
            try:
                yield _Bar(progress, progress.add_task(name, total=total, unit=unit, note=""))
            finally:
                self._progress = None

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    """Export the workspace to the environment, where the code for weights and worker processes look for it."""
    os.environ["WTAL_WORKSPACE"] = str(value)
    return value


def workspace_option(function: Function) -> Function:
    """Add `--workspace`, defaulting to $WTAL_WORKSPACE or ./workspace."""
    option = click.option(
        "--workspace",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_workspace,
        callback=_remember,
        help="Folder for features, runs and submissions. Default: $WTAL_WORKSPACE or ./workspace.",
    )
    return option(function)


def json_option(function: Function) -> Function:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def verdicts_option(function: Function) -> Function:
    """Add `--verdicts/--no-verdicts`."""
    text = "Also learn from the workspace's verdicts about what videos show and do not show.  [default: yes]"
    return click.option("--verdicts/--no-verdicts", default=True, help=text)(function)


def jobs_option(text: str) -> Callable[[Function], Function]:
    """Add `--jobs`, a number or auto; `text` describes what is counted."""
    return click.option(
        "--jobs",
        type=AutomaticJobs(),
        metavar="N|auto",
        default="auto",
        show_default=True,
        help=f"{text}; auto chooses the fastest number for this machine.",
    )


def device_option(function: Function) -> Function:
    """Add `--device`."""
    return _device("Device to compute on: auto, cpu, cuda or cuda:N.")(function)


def devices_option(function: Function) -> Function:
    """Add `--device`, which accepts several devices."""
    return _device("Device to compute on: auto, cpu, cuda, cuda:N, or several such as cuda:0,cuda:1.")(function)


def _device(text: str) -> Callable[[Function], Function]:
    return click.option("--device", default="auto", show_default=True, help=text)


def refuse_unless(option: str, given: bool, *names: str) -> None:
    """Refuse options that have no effect without another one, if that one is missing.

    `names` are those of their parameters.

    Raises:
        UsageError: naming the first.
    """
    ctx = click.get_current_context()
    for param in ctx.command.params:
        typed = ctx.get_parameter_source(param.name or "") == ParameterSource.COMMANDLINE
        if param.name in names and typed and not given:
            raise UsageError(
                f"{param.opts[0]} has no effect without {option}; add {option}, or leave {param.opts[0]} out"
            )


def print_lines(lines: Sequence[str]) -> None:
    """Print notes and failures on stderr: one line each, only the first twenty."""
    for line in lines[:_LINES]:
        click.echo(readable(" ".join(line.split())), err=True)
    if len(lines) > _LINES:
        click.echo(f"and {len(lines) - _LINES} more; --json has them all", err=True)


def print_json(value: Any) -> None:
    """Print the result of a command on stdout."""
    click.echo(readable(json.dumps(value, indent=2, ensure_ascii=False)))
