"""What a training step frees, kept for the next one."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of glibc's mallopt: from how many free bytes on the heap shrinks, and how many blocks may lie outside of it.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER, _USUAL = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}, {_TRIM_THRESHOLD: 2**26, _MMAP_MAX: 2**16}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within, the process keeps what it frees; at the end all that is free goes back to the system.

    A step on a CPU makes and frees tensors of megabytes. glibc gives each of them back at once, and the system clears
    pages for the next one, which is up to half of the time of a narrow head's step. Libraries of other systems are
    left as they are.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    for option, value in _NEVER.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
