"""Disk that fills up, at the function that writes every file; and calls that die or wait at a certain point."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager

from wtal.data import files
from wtal.data.locks import Lock


class Disk:
    """Disk that counts bytes since `fill`; a write beyond `room` is cut short and refused.

    `module` is the one whose writes are counted.
    """

    def __init__(self, monkeypatch, module=files):
        self.written, self.room = 0, None
        self._append = files.append
        monkeypatch.setattr(module, "append", self.append)

    def fill(self, room: int | None) -> None:
        self.written, self.room = 0, room

    def append(self, descriptor: int, content: bytes | memoryview) -> None:
        content = memoryview(content).cast("B")
        left = content.nbytes if self.room is None else max(0, self.room - self.written)
        self._append(descriptor, content[:left])
        self.written += min(left, content.nbytes)
        if content.nbytes > left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed(work: Callable[[], object]) -> None:
    """Run `work` in a child process, which must end by `die`."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def waiting(monkeypatch, work: Callable[[], object], where: Callable[[str], bool]):
    """Run `work` in a thread; the block begins when it is about to wait for a lock at a path chosen by `where`.

    After the block the thread is joined; its exception is raised, and its result is in the yielded list.
    """
    arrived, returned, raised = threading.Event(), [], []
    acquire = Lock.acquire

    def acquired(path, *, wait):
        if wait and where(str(path)) and threading.current_thread() is thread:
            arrived.set()
        return acquire(path, wait=wait)

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            raised.append(error)
        arrived.set()

    thread = threading.Thread(target=run)
    monkeypatch.setattr(Lock, "acquire", acquired)
    thread.start()
    arrived.wait()
    yield returned
    thread.join()
    if raised:
        raise raised[0]
