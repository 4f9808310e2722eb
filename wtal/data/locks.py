"""Locks between processes that the kernel drops when their holder dies, kill -9 included (flock; POSIX only)."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Lock:
    """An exclusive lock on a file that exists for its sake and goes with it.

    Threads of one process shut each other out too. A forked child shares the lock of its parent and keeps it alive
    until it ends; a spawned one does not.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, *, wait: bool) -> "Lock | None":
        """The lock on `path`, or None where another holds it and `wait` is False; the folder is made if missing.

        Raises:
            OSError: when the file cannot be made.
        """
        while True:
            path.parent.mkdir(exist_ok=True)
            try:
                descriptor = _opened(path)
            except FileNotFoundError:  # another process removed the empty folder in between
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(descriptor)
                return None
            if _is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(
                descriptor
            )  # its last holder removed the file while this one waited: what is locked is no longer it

    def release(self) -> None:
        """Remove the file, then let go: whoever waited for it finds it gone and tries anew."""
        self.path.unlink(missing_ok=True)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; its folder is there already, and the file stays."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open or make a lock's file; a link is not followed, as it may make or lock a file anywhere."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a lock is no link; remove it", str(path)) from None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
