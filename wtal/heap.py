"""What is free, given back to the system."""

import ctypes
import os
import threading
import time
from collections.abc import Callable

_EVERY_SECONDS = 10.0


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
