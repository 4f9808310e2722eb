"""Memory of a command and of the processes that it starts."""

import subprocess
import time

import psutil


def peak_mb(command):
    """Run a command to its end and return the peak memory of it and its children; shared pages count in parts."""
    most = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, held_mb(psutil.Process(process.pid)))
            time.sleep(0.2)
    assert process.returncode == 0, command
    return most


def held_mb(process):
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return total / 2**20
