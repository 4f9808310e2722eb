"""A command run to its end: its seconds, processor seconds and the memory that it held at most."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._turns import short

_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Spent:
    """Seconds that went by, processor seconds (of all threads and children), MiB, and what it wrote to stdout.

    `own_mib` is memory of its own: what it had mapped of files (features among it), which the system drops where it
    wants room, does not count.
    """

    seconds: float
    processor: float
    own_mib: float
    output: str


def run(command: Sequence[str]) -> Spent:
    """Run a command.

    Raises:
        CalledProcessError: when it ends with another exit code than 0; the error has its stderr.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started, own = time.perf_counter(), 0.0
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            own = max(own, _own(process.pid))
            time.sleep(_EVERY_SECONDS)
        seconds = time.perf_counter() - started
        _, status, usage = ended
        process.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if code:
            errors.seek(0)
            raise subprocess.CalledProcessError(code, command, stderr=errors.read())
        return Spent(seconds, usage.ru_utime + usage.ru_stime, own, out.read())


def growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Ratios of the last size to the first, task by task: of processor seconds, and of memory."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    if len(sizes) == 1:
        return {}
    few, many = ({row["task"]: row for row in rows if row["size"] == size} for size in (sizes[0], sizes[-1]))
    return {
        f"{what} of all / of the first, {task}": short(many[task][key] / few[task][key])
        for key, what in (("processor_s", "processor seconds"), ("MiB", "memory"))
        for task in few
    }


def _own(pid: int) -> float:
    """MiB of a process's own pages, now; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024
