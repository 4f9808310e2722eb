"""One case: a copy of the planted workspace, damage, a command in this process, and checks of its end."""

import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from tests.fuzz import cases
from wtal.cli import main

SECONDS, SLOW_SECONDS = 30, 120
"""Time limit of a case, and of a slow one, which may start processes of its own."""
_MEMORY = 8 << 30
"""Address space in bytes for a case on top of that of this process."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


_TRIAL = "wtal-trial-"
"""Prefix of the temporary folder of a dry run."""
_CACHES = {"__pycache__", "matplotlib"}
"""Folders of libraries."""


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for a block, in memory if the system has such files: there are thousands of small files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="wtal-fuzz-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


class _TooLong(BaseException):
    """Exception for a case that ran out of time."""


@dataclass(frozen=True)
class Outcome:
    """Command of a case, its end, and the fault, which is empty if there is none."""

    seed: int
    number: int
    slow: bool
    kind: str
    command: str
    code: int
    output: str
    faults: tuple[str, ...]

    def __str__(self) -> str:
        repeat = f"python -m tests.fuzz --seed {self.seed} --only {self.number}{' --slow' * self.slow}"
        return "\n".join(
            [f"{self.kind}: wtal {self.command}", *self.faults, self.output[-2000:].rstrip(), f"again: {repeat}"]
        )


def run_case(planted: Path, folder: Path, seed: int, number: int, slow: bool = False) -> Outcome:
    """Run a case in `folder`, which is created and removed."""
    rng = np.random.default_rng([seed, number, slow])
    shutil.copytree(planted, folder, symlinks=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        kind, command, file = _chosen(rng, slow)
        with _watched(folder) as written:
            result = _call(command, SLOW_SECONDS if slow else SECONDS)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)  # a reader that ends late may still be in it
    faults = [*_faults(result, file), *(f"it wrote outside: {path}" for path in written)]
    return Outcome(seed, number, slow, kind, command, result.exit_code, result.output, tuple(faults))


def _chosen(rng: np.random.Generator, slow: bool) -> tuple[str, str, Path | None]:
    kinds = cases.SLOW_KINDS if slow else cases.KINDS
    if not slow and rng.integers(4) == 0:
        calls = cases.CALLS if rng.integers(2) else cases.settings()
        call, value = (options[rng.integers(len(options))] for options in (calls, cases.NUMBERS))
        return "call", call.replace("{}", shlex.quote(value)), None
    kind = kinds[rng.integers(len(kinds))]
    for pattern in kind.before:
        for path in Path().glob(pattern):
            shutil.rmtree(path)
    file, command = cases.damaged(rng, kind)
    return kind.name, command, file


def _call(command: str, seconds: float) -> Result:
    name = command.partition(" ")[0]
    bare = name in _WITHOUT_WORKSPACE or command.startswith("review import ")
    workspace = [] if bare else ["--workspace", "ws"]
    with _bounded(seconds):
        try:
            return CliRunner().invoke(main, [*shlex.split(command), *workspace])
        except _TooLong as error:
            return Result(CliRunner(), b"", b"", b"", None, -1, error, (type(error), error, error.__traceback__))


_WITHOUT_WORKSPACE = {"show", "evaluate", "diagnose", "export", "export-features", "pack", "demo"}


def _faults(result: Result, file: Path | None) -> Iterator[str]:
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        yield "".join(traceback.format_exception(error))[-3000:]
    elif result.exit_code not in (0, 1, 2, 3):
        yield f"it ended with exit code {result.exit_code}"
    elif "Traceback" in result.output:
        yield "it printed a traceback"
    elif result.exit_code in (1, 2):
        lines = [line for line in result.stderr.splitlines() if line.startswith("wtal: ")]
        checked = "would be refused" in result.output or "errors" in result.output
        if len(lines) != 1 and not checked:
            yield f"it ended with {len(lines)} lines that say why"


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Bound time and memory of a block."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, hard))
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


_watch: tuple[Path, list[str]] | None = None


@contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """List files outside of a folder that this process writes, creates, moves or removes."""
    global _watch
    _watch = (folder.resolve(), [])
    try:
        yield _watch[1]
    finally:
        _watch = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is None:
        return
    if event == "open":
        path, _, flags = arguments
        nameless = isinstance(path, str | bytes) and Path(os.fsdecode(path)).is_dir()  # a file without a name
        paths = [path] if isinstance(flags, int) and flags & _WRITES and not nameless else []
    else:
        paths = [path for path in arguments[:2] if isinstance(path, str | bytes)] if event in _CHANGES else []
    folder, written = _watch
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            real = Path(os.path.realpath(os.fsdecode(path)))
            if any(part.startswith(_TRIAL) for part in real.parts):
                continue
            if folder not in (real, *real.parents) and real != Path(os.devnull) and not _CACHES & {*real.parts}:
                written.append(str(real))


tempfile.gettempdir()  # writes a file at its first look-up
sys.addaudithook(_hook)
