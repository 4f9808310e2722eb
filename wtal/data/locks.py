"""Locks between processes that the system releases when their holder dies, even by kill -9.

They are the system's own, through `filelock`: flock on Linux and macOS, LockFileEx on Windows. Network disks support
them if server and mount do (NFS, SMB, Lustre with `-o flock`); a disk without locks is reported. The mere presence of
a file locks nothing: a killed process would leave it forever.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, overload

from filelock import lock_descriptor, unlock_descriptor

_APART = os.name == "nt"
"""True if the system neither renames nor removes open files, and lets nobody else write locked ones."""
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0
"""Seconds of retrying while a file is in use, e.g. by a reader or a virus scanner."""
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
"""Errors of a disk that does not support locks."""


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
            OSError: when the file cannot be created, or its disk has no locks.
        """
        while True:
            path.parent.mkdir(exist_ok=True)
            try:
                descriptor = _opened(path)
            except FileNotFoundError:  # another process removed the empty folder in between
                continue
            try:
                taken = _taken(descriptor, path, wait=wait)
                if taken and _is_at(descriptor, path):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if not taken:
                return None
            # The last holder removed the file while this one waited: the locked file is no longer at the path.

    def release(self) -> None:
        """Remove the file and unlock it: waiting processes find it gone and try again.

        A file that another process has open stays if the system does not remove such files; the last one removes it.
        """
        if _APART:
            self.let_go()
            with suppress(PermissionError):
                self.path.unlink(missing_ok=True)
            return
        self.path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Unlock a file that has moved: waiting processes find another one, or none, and try again."""
        unlock_descriptor(self.descriptor)
        os.close(self.descriptor)


class Draft:
    """An open file with a temporary name, written by only one process at a time.

    The file is its own lock, and keeps it while it gets its final name. If the system cannot rename open files, and
    lets no library write locked ones, the lock is a separate file next to it.
    """

    def __init__(self, path: Path) -> None:
        """Wait until nobody else is writing the file; it may contain the leftovers of a killed process."""
        self.path = path
        self._lock = Lock.acquire(_lock_of(path) if _APART else path, wait=True)
        self.descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o666) if _APART else self._lock.descriptor

    def publish(self, target: Path) -> None:
        """Give the file the name `target`, once every byte is on the disk.

        Raises:
            OSError: when it cannot be renamed; the draft is still locked.
        """
        os.fsync(self.descriptor)
        if _APART:
            os.close(self.descriptor)
            self.descriptor = -1
            _patiently_replace(self.path, target)
            self._lock.release()
        else:
            self.path.replace(target)
            self._lock.let_go()

    def discard(self) -> None:
        """Remove the file and release its lock."""
        if _APART:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self.path.unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; the file is removed at the end."""
    lock = Lock.acquire(path, wait=True)
    try:
        yield
    finally:
        lock.release()


def sweep(path: Path) -> None:
    """Remove a draft whose writer was killed."""
    lock = Lock.acquire(_lock_of(path) if _APART else path, wait=False)
    if lock is not None:
        if _APART:
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on `path` for a block, waiting for it; its folder must exist, and the file stays."""
    descriptor = _opened(path)
    try:
        _taken(descriptor, path, wait=True)
        try:
            yield
        finally:
            unlock_descriptor(descriptor)  # which closing does not, where a forked child has the file too
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return True if the lock on `path` is held; False if there is no such file, or it is a link."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        return _is_locked_for_readers(path)
    try:
        return not _taken(descriptor, path, wait=False)
    finally:
        os.close(descriptor)


def _is_locked_for_readers(path: Path) -> bool:
    """Check a lock in a read-only folder; False on a disk that locks only writable files."""
    descriptor = os.open(path, _FLAGS & ~os.O_RDWR | os.O_RDONLY)
    try:
        return not _taken(descriptor, path, wait=False)
    except OSError as error:
        if error.errno == errno.EBADF:
            return False
        raise
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open or create a lock's file; links are not followed, as they could create or lock a file anywhere."""
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, "a lock must not be a link; remove it", str(path))
    try:
        return os.open(path, _FLAGS | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a lock must not be a link; remove it", str(path)) from None
        raise


def _taken(descriptor: int, path: Path, *, wait: bool) -> bool:
    """Lock an open file; False if another process holds the lock and `wait` is False.

    Raises:
        OSError: when its disk does not support locks.
    """
    try:
        return lock_descriptor(descriptor, blocking=wait, poll_interval=_POLL_SECONDS)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            why = "its disk does not support file locks; mount it with them, or name a workspace on another disk"
            raise OSError(error.errno, why, str(path)) from None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_of(draft: Path) -> Path:
    """Return the file next to a draft that is locked in its place; it is named like a draft too."""
    return draft.with_name(f"{draft.name.removesuffix('.tmp')}.lock.tmp")


def _patiently_replace(source: Path, target: Path) -> None:
    """Rename a file, replacing one that may still be open for reading.

    Raises:
        PermissionError: when it stays open too long.
    """
    last = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if time.monotonic() > last:
                raise
            time.sleep(_POLL_SECONDS)
