"""Memory freed by a training step stays with the process, and is returned afterwards."""

import ctypes
import json
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from wtal.heap import freed_memory_kept, share_arenas

# In a separate process: memory freed by other tests would serve its steps.
STEPS = """
import json, resource
from pathlib import Path
import torch
from wtal.heap import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(3 << 20) for _ in range(30)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

found = {"pages": (360 << 20) // resource.getpagesize()}
try:
    with freed_memory_kept():
        found |= {"within": [faults() for _ in range(9)], "kept": held()}
        raise ZeroDivisionError
except ZeroDivisionError:
    print(json.dumps(found | {"after": held()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_serves_the_next_step_and_goes_back_at_the_end():
    made = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    found = json.loads(made.stdout)
    assert max(found["within"][5:]) < 0.05 * found["pages"], found
    assert found["after"] < found["kept"] - 200, found


# Pictures of 1080p that are freed together: glibc alone returns them to the system.
PICTURES = """
import resource
import numpy as np
from wtal.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [np.ones(6 << 20, np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = min(faults() for _ in range(5))
keep_freed_memory()
print(before, min(faults() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_reader_keeps_the_memory_of_its_pictures():
    shown = subprocess.run([sys.executable, "-c", PICTURES], capture_output=True, text=True, check=True).stdout
    usual, kept = map(int, shown.split())
    assert usual > 1000, shown
    assert kept < 0.05 * usual, shown


def test_libraries_without_these_options_are_left_alone(monkeypatch):
    calls = []
    for library in (object(), SimpleNamespace(mallopt=lambda *given: calls.append(given))):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        with freed_memory_kept():
            pass
    assert not calls


@pytest.mark.parametrize(("threads", "arenas"), [(1, 1), (2, 1), (16, 8)])
def test_two_threads_share_an_arena(threads, arenas, monkeypatch):
    calls = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *given: calls.append(given)))
    share_arenas(threads)
    assert calls == [(-8, arenas)]


def test_a_library_without_arenas_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert share_arenas(2) is None
