"""Memory of a command and all of its child processes; Linux divides shared pages among the processes that map them."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_EVERY_SECONDS = 0.2
_PROC = Path("/proc")


def followed(command: Sequence[str]) -> list[tuple[float, float]]:
    """Run a command to its end -> (seconds since its start, MB of it and its children), several samples per second.

    Raises:
        CalledProcessError: when its exit code is not 0; the error has its stderr.
    """
    start, samples = time.perf_counter(), []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None:
                samples.append((time.perf_counter() - start, memory_of(process.pid)))
                time.sleep(_EVERY_SECONDS)
        if process.returncode:
            errors.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors.read())
    return samples


def memory_of(pid: int) -> float:
    """Present memory of a process and its descendants, in MB."""
    return sum(_own(process) for process in _family(pid))


def _own(pid: int) -> float:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # the process has ended meanwhile
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _family(pid: int) -> list[int]:
    """The process and its descendants."""
    parents = {int(path.name): _parent(path) for path in _PROC.iterdir() if path.name.isdigit()}
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _parent(folder: Path) -> int:
    try:
        # The program's name comes first, in brackets, and may contain any character.
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
