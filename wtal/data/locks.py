"""Locks between processes that the kernel drops when their holder dies, kill -9 included (flock; POSIX only)."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, overload


class Lock:
    """An exclusive lock on a file that exists for its sake and goes with it.

    Threads of one process shut each other out too. A forked child shares the lock of its parent and keeps it alive
    until it ends; a spawned one does not.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @overload
    @classmethod
    def acquire(cls, path: Path, *, wait: Literal[True]) -> "Lock": ...

    @overload
    @classmethod
    def acquire(cls, path: Path, *, wait: bool) -> "Lock | None": ...

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
        self.let_go()

    def let_go(self) -> None:
        """Let go of a file that has moved: whoever waited for it finds another one, or none, and tries anew."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; the file goes at the end."""
    lock = Lock.acquire(path, wait=True)
    try:
        yield
    finally:
        lock.release()


def sweep(path: Path) -> None:
    """Remove a file that is locked while it is written, where its writer was killed."""
    lock = Lock.acquire(path, wait=False)
    if lock is not None:
        lock.release()


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


def is_locked(path: Path) -> bool:
    """Return whether anybody holds the lock on `path`; False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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
