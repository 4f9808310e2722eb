"""The C heap of glibc: free memory given back to the system, or kept for the next training step."""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_EVERY_SECONDS = 10.0
# Numbers of glibc's mallopt: from how many free bytes on the heap shrinks, and from what size on a block lies outside.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ARENA_MAX = -8
"""Number of mallopt: into how many heaps threads allocate at most."""
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**24}
_USUAL = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}


def share_arenas(threads: int) -> None:
    """Have glibc keep one heap per two of so many threads, where by itself it has up to eight per core.

    A clip of one thread then fits into what another one freed, which is a twentieth of extraction's peak on two cores.
    To be called before the threads start. Libraries of other systems are left as they are.
    """
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, max(1, threads // 2))


def keep_freed_memory() -> None:
    """Have glibc keep what the process frees, blocks of up to 32 MiB, instead of giving it back to the system.

    A reader makes and frees pictures of megabytes, frame by frame; clearing pages for each is a fifth of the processor
    time of decoding 1080p. Libraries of other systems are left as they are.
    """
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_MMAP_THRESHOLD, 2**25)


class Trimmer:
    """Has glibc give free memory back, every ten seconds at most.

    Clips of many megabytes come and go in several threads, and what is kept of them, a few numbers, lies between: left
    to itself the heap grows by the holes. Other systems' libraries see to it themselves.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if os.name == "posix" else None
        self._trim: Callable[[int], int] | None = getattr(library, "malloc_trim", None)
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Now, if it is time."""
        with self._lock:
            due = time.monotonic() - self._last > _EVERY_SECONDS
            if due:
                self._last = time.monotonic()
        if due and self._trim is not None:
            self._trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within, the process keeps what it frees; at the end all that is free goes back to the system.

    A step on a CPU makes and frees tensors of megabytes. glibc gives much of them back, and the system clears pages for
    the next ones, which is up to half of the time of a narrow head's step. Tensors of 16 MiB and more do go back: what
    is computed on them takes far longer, and holes of that size would double the memory. Afterwards glibc's thresholds
    are the highest that it would have come to by itself. Libraries of other systems are left as they are.
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
