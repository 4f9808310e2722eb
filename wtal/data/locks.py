"""Locks between processes that the system releases when their holder dies, even by kill -9.

They are the system's own, through `filelock`: flock on Linux and macOS, LockFileEx on Windows. Network disks have them
if their server and mount do (NFS, SMB, Lustre with `-o flock`); a disk without locks is reported. The mere presence of
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
"""True where the system neither renames nor removes an open file, and lets nobody else write a locked one."""
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0
"""Time for which a file that the system says is in use is tried again: a reader, or a scan for viruses, has it open."""
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
"""Errors of a disk that knows no locks."""


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
    """An open file with a temporary name, which only one may write at a time.

    The file is its own lock, and keeps it while it takes its last name. Where the system renames no open file, and lets
    no library write a locked one, the lock is a file beside it.
    """

    def __init__(self, path: Path) -> None:
        """Wait until nobody else writes the file; it may hold what a killed process left."""
        self.path = path
        self._lock = Lock.acquire(_lock_of(path) if _APART else path, wait=True)
        self.descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o666) if _APART else self._lock.descriptor

    def publish(self, target: Path) -> None:
        """Give the file the name `target`, once every byte is on the disk.

        Raises:
            OSError: when it cannot have it; the draft is still held.
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
        """Leave nothing."""
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
    """Ask after a lock in a folder that is read-only; a disk that locks only what can be written answers no."""
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
    """Lock an open file; False where another holds it and `wait` is False.

    Raises:
        OSError: when its disk knows no locks.
    """
    try:
        return lock_descriptor(descriptor, blocking=wait, poll_interval=_POLL_SECONDS)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            why = "its disk knows no file locks; mount it with them, or name a workspace on another disk"
            raise OSError(error.errno, why, str(path)) from None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_of(draft: Path) -> Path:
    """Return the file beside a draft that is locked in its place; its name is that of a draft too."""
    return draft.with_name(f"{draft.name.removesuffix('.tmp')}.lock.tmp")


def _patiently_replace(source: Path, target: Path) -> None:
    """Rename a file over another one that somebody may still be reading.

    Raises:
        PermissionError: when it is read for longer than is waited.
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
