"""Control the C heap of glibc: return free memory to the system, or keep it for the next training step."""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_EVERY_SECONDS = 10.0
# Option numbers of glibc's mallopt: free bytes above which the heap shrinks, block size above which mmap is used.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ARENA_MAX = -8
"""Option number of mallopt: maximum number of heaps for all threads."""
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**24}
_USUAL = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}


def share_arenas(threads: int) -> None:
    """Limit glibc to one heap per two of `threads` threads, instead of up to eight per core.

    A clip of one thread then fits into memory freed by another, which saves a twentieth of extraction's peak on two
    cores. Call it before the threads start. Other systems are not affected.
    """
    _set({_ARENA_MAX: max(1, threads // 2)})


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks of up to 32 MiB, instead of returning them to the system.

    A reader allocates and frees pictures of several megabytes, frame by frame; clearing pages for each is a fifth of
    the processor time of decoding 1080p. Other systems are not affected.
    """
    _set(_KEEP | {_MMAP_THRESHOLD: _USUAL[_MMAP_THRESHOLD]})


def _set(options: Mapping[int, int]) -> None:
    """Set options of mallopt, if this is glibc."""
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "mallopt"):
        for option, value in options.items():
            library.mallopt(option, value)


class Trimmer:
    """Make glibc return free memory to the system, at most every ten seconds.

    Several threads allocate and free clips of many megabytes, and the few numbers kept of each lie in between, so that
    the heap would grow by the holes. Other systems need no help.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if os.name == "posix" else None
        self._trim: Callable[[int], int] | None = getattr(library, "malloc_trim", None)
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Trim the heap, if it is due."""
        with self._lock:
            due = time.monotonic() - self._last > _EVERY_SECONDS
            if due:
                self._last = time.monotonic()
        if due and self._trim is not None:
            self._trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process during the block; at its end all free memory is returned to the system.

    A step on a CPU allocates and frees tensors of megabytes. By default glibc returns much of that memory, and the
    system clears pages for the next tensors, up to half of the time of a narrow head's step. Tensors of 16 MiB and more
    are still returned: computing on them takes far longer, and holes of that size would double the memory. Afterwards
    glibc's thresholds are the highest that it would have reached itself. Other systems are not affected.
    """
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    for option, value in _KEEP.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
