"""Fingerprints of files that were read before: a file that is as it was is not read again.

To tell a video from another one under its id, its file is read at both ends: for a hundred thousand finished videos
that would be hours of a disk, whenever a call goes on. A file is as it was where its path, size, inode and both its
times are. What changed less than two seconds before it was looked at does not count: its times may stand still.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from wtal.config import Record
from wtal.data.files import write_json
from wtal.data.json_keys import read_record
from wtal.data.store.writer import file_fingerprint
from wtal.errors import DiskFullError, WtalError

_SETTLED_NANOSECONDS = 2 * 10**9

Look = tuple[int, int, int, int]
"""Size in bytes, times of content and of entry in nanoseconds, and inode of a file."""


class _Known(Record):
    """Content of the file: path -> what it looked like, and its fingerprint."""

    files: dict[str, Annotated[tuple[int, int, int, int, str], Field(strict=False)]]


class Seen:
    """Fingerprints that are kept in `file`, or for this process alone where that is None.

    A file that is missing or damaged is none: all it costs is to read the videos again.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, tuple[int, int, int, int, str]] = _read(file) if file else {}
        self._changed = False

    def fingerprint(self, path: Path) -> str:
        """Return the fingerprint of a file, which is read if it is not as it was.

        Raises:
            OSError: when it cannot be read.
        """
        look = look_at(path)
        known = self._known.get(str(path))
        if look is not None and known is not None and known[:4] == look:
            return known[4]
        fingerprint = file_fingerprint(path)
        self.learn(path, look, fingerprint)
        return fingerprint

    def learn(self, path: Path, look: Look | None, fingerprint: str) -> None:
        """Keep a fingerprint that was taken after the file looked like that; nothing where it did not stand still."""
        if look is not None and look == look_at(path):
            self._known[str(path)] = (*look, fingerprint)
            self._changed = True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the file at the end of the block, however that ends, where there is something new and room for it."""
        try:
            yield
        finally:
            if self._file is not None and self._changed:
                with suppress(OSError, DiskFullError):
                    write_json(self._file, {"files": self._known}, indent=None)
                self._changed = False


def look_at(path: Path) -> Look | None:
    """Return what a file looks like; None where it has just changed, or cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    if max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - _SETTLED_NANOSECONDS:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(file: Path) -> dict[str, tuple[int, int, int, int, str]]:
    try:
        return dict(read_record(file, _Known, "remove it", WtalError).files)
    except (OSError, WtalError):
        return {}
