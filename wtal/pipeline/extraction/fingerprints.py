"""Fingerprints of video files from earlier calls, so that unchanged files are not read again.

A fingerprint distinguishes a video from another one with the same id, and takes a read at both ends of the file: for a
hundred thousand finished videos that would take hours whenever a call resumes. A file counts as unchanged if its path,
size, inode and both timestamps are the same. Files changed less than two seconds ago are not remembered, because their
timestamps may be too coarse.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from wtal.config import Record
from wtal.data.files import write_json
from wtal.data.parsing.json_keys import read_record
from wtal.data.store.writer import file_fingerprint
from wtal.errors import DiskFullError, WtalError

_SETTLED_NANOSECONDS = 2 * 10**9

FileStatus = tuple[int, int, int, int]
"""Size in bytes, times of content and of entry in nanoseconds, and inode of a file."""


class _KnownFiles(Record):
    """Content of the file: path -> its size, timestamps and inode, and its fingerprint."""

    files: dict[str, Annotated[tuple[int, int, int, int, str], Field(strict=False)]]


class Fingerprints:
    """Fingerprints that are stored in `file`, or only in memory if that is None.

    A missing or damaged file is ignored; the videos are then read again.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, tuple[int, int, int, int, str]] = _read(file) if file else {}
        self._changed = False

    def fingerprint(self, path: Path) -> str:
        """Return the fingerprint of a file, which is read only if it has changed.

        Raises:
            OSError: when it cannot be read.
        """
        status = status_of(path)
        known = self._known.get(str(path))
        if status is not None and known is not None and known[:4] == status:
            return known[4]
        fingerprint = file_fingerprint(path)
        self.learn(path, status, fingerprint)
        return fingerprint

    def learn(self, path: Path, status: FileStatus | None, fingerprint: str) -> None:
        """Remember a fingerprint that was taken after `status`, unless the file has changed since."""
        if status is not None and status == status_of(path):
            self._known[str(path)] = (*status, fingerprint)
            self._changed = True

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Write new fingerprints at the end of the block, even after an error, if the disk has room."""
        try:
            yield
        finally:
            if self._file is not None and self._changed:
                with suppress(OSError, DiskFullError):
                    write_json(self._file, {"files": self._known}, indent=None)
                self._changed = False


def status_of(path: Path) -> FileStatus | None:
    """Return size, timestamps and inode of a file; None if it has just changed or is inaccessible."""
    try:
        status = path.stat()
    except OSError:
        return None
    if max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - _SETTLED_NANOSECONDS:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(file: Path) -> dict[str, tuple[int, int, int, int, str]]:
    try:
        return dict(read_record(file, _KnownFiles, "remove it", WtalError).files)
    except (OSError, WtalError):
        return {}
