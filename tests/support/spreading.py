"""Calls of extraction as a process of their own, their stores, and a video that kills its worker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from wtal.pipeline.extraction import worker

COUNT = 8
"""Number of the videos that are not empty."""


def wtal(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "wtal", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def content(store):
    """Bytes of all published files, by name."""
    return {path.name: path.read_bytes() for path in Path(store).iterdir() if path.is_file() and path.name != ".lock"}


def killed_by_one(stores, specs, home, video):
    """Replacement for the work of a process, which one video kills."""
    if video.id == "v2":
        os.kill(os.getpid(), signal.SIGKILL)
    return worker.extract_in_worker(stores, specs, home, video)
