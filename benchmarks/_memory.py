"""Memory of a command and all processes that it starts, as Linux counts it: what several share is divided by them."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_EVERY_SECONDS = 0.2
_PROC = Path("/proc")


def followed(command: Sequence[str]) -> list[tuple[float, float]]:
    """Run a command to its end -> (seconds since its start, MB that it and its children held), several a second.

    Raises:
        CalledProcessError: when it ends with another exit code than 0; the error has its stderr.
    """
    start, found = time.perf_counter(), []
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as process:
            while process.poll() is None:
                found.append((time.perf_counter() - start, held(process.pid)))
                time.sleep(_EVERY_SECONDS)
        if process.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=said.read())
    return found


def held(pid: int) -> float:
    """MB of a process and of all below it, now."""
    return sum(_own(process) for process in _family(pid))


def _own(pid: int) -> float:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _family(pid: int) -> list[int]:
    """The process and its descendants."""
    parents = {int(path.name): _parent(path) for path in _PROC.iterdir() if path.name.isdigit()}
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def _parent(folder: Path) -> int:
    try:
        # The name of the program stands in brackets before it, and may hold anything.
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
