"""Files that appear whole or not at all: on a full disk, after a kill, and with two writers."""

import ast
import errno
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.disks import Disk, die, killed, waiting
from wtal.data import files
from wtal.data.files import atomic_file, swept, write_atomic, write_json
from wtal.data.locks import Lock, is_locked, locked, sweep
from wtal.errors import DiskFullError

ROOT = Path(files.__file__).resolve().parents[1]
ROWS = np.arange(3000, dtype=np.float32).reshape(100, 30)
WRITERS = {
    "bytes": b"x" * 12_000,
    "numpy": partial(np.save, arr=ROWS),
    "header and rows": lambda file: np.lib.format.write_array(file, ROWS, allow_pickle=False),
    "torch": partial(torch.save, {"rows": torch.from_numpy(ROWS)}),
    "many pieces": lambda file: [file.write(b"0123456789") for _ in range(1200)],
}


def swapped(content):
    """Write with torch, which opens the file last."""
    return (lambda file: torch.save({"rows": torch.from_numpy(ROWS)}, file)) if content is WRITERS["torch"] else content


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.mark.parametrize("writer", WRITERS)
def test_on_a_full_disk_the_old_file_stays_and_the_line_says_how_large_the_new_one_is(writer, tmp_path, disk):
    content, path = swapped(WRITERS[writer]), tmp_path / "deep" / "file"
    size = write_atomic(path, content).stat().st_size
    whole = path.read_bytes()
    path.write_bytes(b"old")
    for room in (0, 1, size // 2, size - 1):
        disk.fill(room)
        with pytest.raises(
            DiskFullError, match=rf"{path}: No space left on device; it takes {size:,} bytes, and [\d,]+ are"
        ):
            write_atomic(path, content)
        assert names(path.parent) == ["file"]
        assert path.read_bytes() == b"old"
    disk.fill(size)
    assert write_atomic(path, content).read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_the_systems_own_refusal_is_met_in_every_library(writer, tmp_path):
    """Simulate a full disk by a limit for files; numpy bypasses Python's files, and notices it itself."""
    code = f"""
import resource, sys
from pathlib import Path
from tests.data.test_files import WRITERS, swapped
from wtal.data.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (11_990, 11_990))
write_atomic(Path(sys.argv[1]), swapped(WRITERS[{writer!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert "DiskFullError" in done.stderr
    assert re.search(r"it takes 1[23],\d\d\d bytes", done.stderr)
    assert names(tmp_path) == []


def test_a_disk_that_refuses_at_the_last_moment_is_full_too(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFullError, match="it takes 5 bytes"):
        write_atomic(tmp_path / "file", b"12345")
    assert names(tmp_path) == []


def test_bytes_that_got_lost_on_the_way_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "append", lambda descriptor, content: os.write(descriptor, content[:3]))
    with pytest.raises(OSError, match="3 of 5 bytes were written"):
        write_atomic(tmp_path / "file", b"12345")
    assert names(tmp_path) == []


def test_another_error_of_the_disk_stays_what_it_is(tmp_path, monkeypatch):
    def broken(descriptor, content):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "append", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "file", WRITERS["numpy"])


def test_what_a_killed_process_left_is_written_over(tmp_path):
    def write() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"a long beginning of a file")
            die()

    killed(write)
    assert names(tmp_path) == [".file.tmp"]
    write_json(tmp_path / "file", [])
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"[]\n"


def test_who_writes_the_same_file_waits(tmp_path, monkeypatch):
    path = tmp_path / "file"
    first = atomic_file(path)
    file = first.__enter__()
    with waiting(monkeypatch, lambda: write_atomic(path, b"second"), lambda lock: lock.endswith(".file.tmp")):
        file.write(b"first ")
        file.write(b"of two")
        assert names(tmp_path) == [".file.tmp"]
        assert Path(file.name).read_bytes() == b"first of two"
        first.__exit__(None, None, None)
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"second"


def test_sweeping_spares_what_is_being_written(tmp_path):
    (tmp_path / ".dead.tmp").touch()
    with atomic_file(tmp_path / "living") as file:
        file.write(b"all of it")
        for name in (".living.tmp", ".dead.tmp"):
            sweep(tmp_path / name)
        assert names(tmp_path) == [".living.tmp"]
    assert (tmp_path / "living").read_bytes() == b"all of it"


def test_after_an_error_the_drafts_of_killed_writers_are_removed_and_others_kept(tmp_path):
    paths = [tmp_path / name for name in ("killed", "absent", "busy")]
    killed(lambda: write_atomic(paths[0], die))
    assert [path.name for path in tmp_path.iterdir()] == [".killed.tmp"]
    with atomic_file(paths[2]) as file:
        with pytest.raises(DiskFullError), swept(paths):
            raise DiskFullError("full")
        assert [path.name for path in tmp_path.iterdir()] == [".busy.tmp"]
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["busy"]


def test_a_lock_is_seen_without_waiting_for_it(tmp_path):
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        assert Lock.acquire(path, wait=False) is None
    assert not is_locked(path)


BESIDE = {
    "commands/_exits.py": "the null device",
    "data/locks.py": "empty files",
    "extractors/demo/video.py": "a video in memory",
    "extractors/viewing/proxy.py": "a copy that the muxer writes below `atomic_path`",
    "extractors/viewing/chapters.py": "a copy that the muxer writes below `atomic_path`",
    "extractors/viewing/clip.py": "a nameless file, which is published when it is whole",
    "extractors/weights/download.py": "a part that is to stay when the transfer breaks off",
    "models/training/board.py": "curves that grow, like the log",
    "models/training/log.py": "a log that grows",
}
"""Files of the package that open others for writing by themselves, with the calls."""
_WRITES = {"write_text", "write_bytes", "tofile", "savetxt", "savez", "savefig", "touch"}


def writes(call: ast.Call) -> bool:
    """Recognize a call that writes to a path: `open` for writing, or a library without an open file."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        texts = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        return any(isinstance(text, str) and set(text) <= set("rwabxt+") and set(text) & set("wax+") for text in texts)
    to_file = any(
        isinstance(argument, ast.Name) and argument.id in ("file", "text", "buffer") for argument in call.args
    )
    return name in _WRITES and not to_file


def test_every_file_is_written_through_one_door():
    by_themselves = {}
    for path in sorted(ROOT.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        saves = [
            c for c in calls if ast.unparse(c.func) in ("np.save", "torch.save") and ast.unparse(c.args[-1]) != "file"
        ]
        if lines := [call.lineno for call in (*filter(writes, calls), *saves)]:
            by_themselves[path.relative_to(ROOT).as_posix()] = lines
    assert set(by_themselves) <= {*BESIDE, "data/files.py"}, by_themselves
    assert "models/training/log.py" in by_themselves
