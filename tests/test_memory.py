"""What a training step frees stays with the process, and goes back afterwards."""

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from wtal.models.memory import freed_memory_kept

PAGE = resource.getpagesize()
SIZE = 12 << 20

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")


def pages_cleared():
    """By the system, for one large tensor that is made, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(SIZE // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@glibc
def test_freed_memory_serves_the_next_step_and_goes_back_at_the_end():
    ctypes.CDLL(None).malloc_trim(0)  # of what other tests left behind
    if pages_cleared() < SIZE // PAGE // 2:
        pytest.skip("needs pages of the usual size: here one fault brings many")
    before = held()
    with freed_memory_kept():
        found = [pages_cleared() for _ in range(30)]
        assert max(found[20:]) < SIZE // PAGE // 20, found
        assert held() > before + SIZE * 0.9
    assert held() < before + SIZE * 0.5
    assert pages_cleared() > SIZE // PAGE // 2


def raise_after_pages():
    pages_cleared()
    raise ZeroDivisionError


@glibc
def test_it_goes_back_after_a_failure_too():
    before = held()
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        raise_after_pages()
    assert held() < before + SIZE * 0.5


def test_libraries_without_these_options_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3
