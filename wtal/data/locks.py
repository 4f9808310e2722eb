"""Locks between processes that the kernel releases when their holder dies, even by kill -9 (flock; POSIX only)."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, overload


class Lock:
    """An exclusive lock on a file that exists only for this purpose and is removed with it.

    It also excludes other threads of the same process. A forked child shares the lock of its parent and holds it until
    the child ends; a spawned one does not.
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
        """Acquire the lock on `path`; None if it is held and `wait` is False. Its folder is created if missing.

        Raises:
            OSError: when the file cannot be created.
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
            # The last holder removed the file while this one waited: the locked file is no longer at the path.
            os.close(descriptor)

    def release(self) -> None:
        """Remove the file, then unlock: waiting processes find it gone and try again."""
        self.path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Unlock a file that has moved: waiting processes find another one, or none, and try again."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; the file is removed at the end."""
    lock = Lock.acquire(path, wait=True)
    try:
        yield
    finally:
        lock.release()


def sweep(path: Path) -> None:
    """Remove a file, locked during writing, whose writer was killed."""
    lock = Lock.acquire(path, wait=False)
    if lock is not None:
        lock.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; its folder must exist, and the file stays."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return True if the lock on `path` is held; False if there is no such file."""
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
    """Open or create a lock's file; links are not followed, as they could create or lock a file anywhere."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a lock must not be a link; remove it", str(path)) from None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
