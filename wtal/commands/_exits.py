"""Endings of a command: one line and an exit code for errors that users can fix, even without stdout or memory."""

import atexit
import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn, TextIO

import click

from wtal.commands._usage import is_help, sentence
from wtal.errors import DiskFullError, WtalError, lacks_memory

_RESUME = "; run the same command again to resume"
try:
    import resource
except ImportError:  # not on Windows, which limits no addresses
    resource = None  # type: ignore[assignment]

_OF_TORCH = 640 << 20
"""Minimum bytes of address space for importing torch and using it for the first time."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 plus the number of the signal."""


@contextmanager
def one_line(resumes: bool = False) -> Iterator[None]:
    """Print an error that the user can fix in one line, and exit; with --debug, it is raised, unless it is click's.

    It is not an error if the reader of stdout stops early. Ctrl-C gives one line too; with `resumes`, it says
    how to continue.
    """
    try:
        with _errors_in_one_line():
            yield
    except click.ClickException as error:
        if is_help(error):
            raise
        fail(sentence(error), error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
        exec("")  # where Ctrl-C came inside of an `exec`, Python has noted to end by the signal; this makes it forget
        fail(f"interrupted{_RESUME if resumes else ''}", INTERRUPTED)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    if "--debug" in sys.argv:
        yield
        return
    try:
        yield
    except WtalError as error:
        fail(str(error), error.exit_code)
    except BrokenPipeError:
        _give_up(sys.stdout, sys.stderr)
        sys.exit(0)
    except OSError as error:
        # A full disk, a read-only folder, a missing permission: the user's to mend, so one line, no traceback.
        if _limited() and "shared object" in str(error):
            fail(_no_memory(error), 1)
        from wtal.data.files import with_room  # late: numpy and pydantic, which --help does not need

        if error.filename and isinstance(full := with_room(error, Path(error.filename)), DiskFullError):
            fail(str(full), full.exit_code)
        where = error.filename or ("standard output" if _printed(error) else "")
        fail(f"{error.strerror or error}{f': {where}' if where else ''}", 1)
    except MemoryError as error:
        fail(_no_memory(error), 1)
    except (ImportError, RuntimeError, SystemError) as error:
        if lacks_memory(error):
            fail(_no_memory(error), 1)
        if isinstance(error, ImportError):
            fail(f"a library cannot be loaded: {error}; run wtal doctor to see what works here", 1)
        raise


def fail(message: str, code: int) -> NoReturn:
    """Print a message in one line on stderr, and exit."""
    with suppress(OSError):
        click.echo(f"wtal: {' '.join(message.split())}", err=True)
    sys.exit(code)


def prepare() -> None:
    """Prepare the process for a command.

    All three streams are opened, warnings of libraries are kept from being errors, and the process will end quickly.
    """
    atexit.register(_skip_last_collection)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: what is opened next would get its number, and be written to
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    if isinstance(sys.stdout, TextIOWrapper):  # halves of characters, in the names of files, cannot be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    if _limited() and "torch" not in sys.modules:
        sys.meta_path.insert(0, _Room())
    if sys.warnoptions:
        os.environ.pop("PYTHONWARNINGS", None)
        warnings.simplefilter("default")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)


def _skip_last_collection() -> None:
    """Keep Python from searching all modules for cycles at its end: with torch, that takes half a second."""
    if "triton" not in sys.modules:  # its library reports what is never freed
        gc.freeze()


class _Room(MetaPathFinder):
    """Refuses to import torch if the limit on address space (ulimit -v) is too low: torch would end the process."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing."""
        if name == "torch" and (room := _room()) < _OF_TORCH:
            raise MemoryError(
                f"torch needs {_OF_TORCH >> 20} MiB of address space, but ulimit -v leaves {room >> 20}; raise it"
            )


def _room() -> int:
    """Return the bytes of address space left to this process by its limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")  # of Linux alone
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    return limit - used


def _limited() -> bool:
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the life of the process


def _no_memory(error: BaseException) -> str:
    why = next(iter(str(error).splitlines()), "")
    return f"there is not enough memory: {why or type(error).__name__}"


def _printed(error: BaseException) -> bool:
    """Return whether an error occurred in printing a result."""
    return traceback.extract_tb(error.__traceback__)[-1].name == click.echo.__name__


def _give_up(*streams: TextIO) -> None:
    """Discard the contents of the streams' buffers, which the interpreter would write when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
