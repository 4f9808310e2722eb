"""Locks that die with their holder; and where the system neither renames nor removes an open file."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.disks import die, killed, waiting
from wtal.data import locks
from wtal.data.files import atomic_file, atomic_path, write_atomic
from wtal.data.locks import Draft, Lock, alone, is_locked, locked, sweep

HOLD = """
import sys
from pathlib import Path
from wtal.data.locks import Lock
assert Lock.acquire(Path(sys.argv[1]), wait=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[False, True], ids=["one file", "apart"])
def apart(request, monkeypatch):
    """Both ways of locking a draft: directly, and through a second file as on Windows."""
    monkeypatch.setattr(locks, "_APART", request.param)
    return request.param


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def holder(path):
    """A process that holds the lock on `path`, and has said so."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_falls_with_a_killed_process_and_not_before(tmp_path, apart):
    path = tmp_path / ".lock"
    process = holder(path)
    assert Lock.acquire(path, wait=False) is None
    assert is_locked(path)
    process.kill()
    process.communicate()
    assert not is_locked(path)
    lock = Lock.acquire(path, wait=False)
    assert lock is not None
    lock.release()
    assert names(tmp_path) == []


def test_who_waits_is_let_in_when_the_other_process_ends(tmp_path, apart):
    path = tmp_path / ".lock"
    process = holder(path)
    threading.Timer(0.2, lambda: process.communicate("")).start()
    with alone(path):
        assert process.poll() is not None or process.wait(10) == 0
    assert names(tmp_path) == []


def test_what_a_forked_child_has_too_is_let_go(tmp_path):
    path = tmp_path / ".lock"
    readable, writable = os.pipe()
    with locked(path):
        if (child := os.fork()) == 0:
            os.close(writable)
            os.read(readable, 1)
            os._exit(0)
        assert is_locked(path)
    assert not is_locked(path)
    os.close(writable)
    os.waitpid(child, 0)
    os.close(readable)


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="a lock must not be a link; remove it"):
        Lock.acquire(tmp_path / ".lock", wait=False)
    assert not is_locked(tmp_path / ".lock")
    assert names(tmp_path) == [".lock"]


def test_a_system_without_the_flag_looks_for_links_itself(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.setattr(locks, "_FLAGS", os.O_RDWR)
    test_a_link_is_no_lock(tmp_path)


@pytest.mark.parametrize("refusal", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_read_only_is_asked_too(tmp_path, monkeypatch, refusal):
    path = tmp_path / ".lock"
    opened = os.open

    def without_writing(name, flags, *mode):
        if flags & os.O_RDWR:
            raise OSError(refusal, os.strerror(refusal), str(name))
        return opened(name, flags, *mode)

    with locked(path):
        monkeypatch.setattr(os, "open", without_writing)
        assert is_locked(path)
        monkeypatch.undo()
    monkeypatch.setattr(os, "open", without_writing)
    assert not is_locked(path)


def test_a_network_disk_that_locks_only_what_can_be_written_says_no(tmp_path, monkeypatch):
    def refused(descriptor, **_):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    (tmp_path / ".lock").touch()
    monkeypatch.setattr(locks, "lock_descriptor", refused)
    assert not locks._is_locked_for_readers(tmp_path / ".lock")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_locks_is_named_and_nothing_is_left_open(tmp_path, monkeypatch, number):
    def refused(descriptor, **_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "lock_descriptor", refused)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    for take in (lambda: Lock.acquire(tmp_path / ".lock", wait=True), lambda: write_atomic(tmp_path / "file", b"")):
        with pytest.raises(
            OSError, match=r"its disk does not support file locks; mount it with them, or name .*\.(lock|tmp)"
        ):
            take()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_draft_is_written_published_and_thrown_away(tmp_path, apart):
    path = tmp_path / "file"
    assert write_atomic(path, b"first\r\n\x1a").read_bytes() == b"first\r\n\x1a"
    second = atomic_file(path)
    file = second.__enter__()
    file.write(b"second")
    assert Path(file.name).read_bytes() == b"second"
    assert not second.__exit__(KeyError, KeyError(), None)
    with atomic_path(tmp_path / "other") as other:
        other.write_bytes(b"by a library")
    assert names(tmp_path) == ["file", "other"]
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"first\r\n\x1a", b"by a library"]


def test_drafts_wait_for_each_other_and_are_swept_when_dead(tmp_path, apart, monkeypatch):
    path = tmp_path / "file"

    def write() -> None:
        with atomic_file(path) as file:
            file.write(b"a long beginning of a file")
            die()

    killed(write)
    assert ".file.tmp" in names(tmp_path)
    first = atomic_file(path)
    file = first.__enter__()
    sweep(tmp_path / ".file.tmp")
    with waiting(monkeypatch, lambda: write_atomic(path, b"second"), lambda lock: lock.endswith(".tmp")):
        file.write(b"first")
        first.__exit__(None, None, None)
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["file"]
    killed(write)
    for left in (*tmp_path.glob(".*.tmp"),):
        sweep(left)
    assert names(tmp_path) == ["file"]


def test_a_file_that_is_being_read_is_replaced_a_little_later(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_APART", True)
    replaced, refusals = Path.replace, [PermissionError(errno.EACCES, "in use")] * 3

    def replace(path, target):
        if refusals:
            raise refusals.pop()
        return replaced(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert write_atomic(tmp_path / "file", b"x").read_bytes() == b"x"
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.05)
    refusals = [PermissionError(errno.EACCES, "in use")] * 1000
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "file", b"y")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_lock_that_another_has_open_stays_where_such_files_cannot_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_APART", True)

    def refuse(path, missing_ok=False):
        raise PermissionError(errno.EACCES, "in use", str(path))

    lock = Lock.acquire(tmp_path / ".lock", wait=True)
    monkeypatch.setattr(Path, "unlink", refuse)
    lock.release()
    assert not is_locked(tmp_path / ".lock")
    draft = Draft(tmp_path / ".file.tmp")
    draft.publish(tmp_path / "file")
    assert names(tmp_path) == [".file.lock.tmp", ".lock", "file"]
