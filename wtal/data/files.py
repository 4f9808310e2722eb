"""Files that appear whole or not at all, and how to read them.

What is written gets a temporary name in the same folder, is flushed to the disk, counted, and renamed. The name is
locked while it is written: who wants to write the same file waits, and what a killed process left is written over.
"""

import codecs
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from wtal.data.json_keys import load_json
from wtal.data.locks import Draft
from wtal.errors import DiskFullError, FormatError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that come of too little room: on the disk, in a quota, or below a limit for files."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write into; it takes the name `path` when the block ends well, and leaves nothing otherwise.

    A reader of `path` sees the old bytes or all of the new ones, also after a crash: the bytes reach the disk before
    the rename does. Missing folders above `path` are made.

    Raises:
        IsADirectoryError: when `path` is a folder; nothing is written then.
        DiskFullError: when there is no room for the file; the message says how large it is.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    written = _Written(path)
    try:
        yield cast(BinaryIO, written)
        written.publish()
    except BaseException as error:
        written.discard()
        if isinstance(error, OSError):
            raise with_room(error, path, written.size) from None
        raise
    _sync_folder(path.parent)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path for a library that opens files by itself; what it wrote there becomes `path` as with `atomic_file`.

    That the library tells of a full disk is its own affair.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Draft(path.with_name(f".{path.name}.tmp"))
    try:
        yield draft.path
        draft.publish(path)
    except BaseException:
        draft.discard()
        raise
    _sync_folder(path.parent)


class _Written:
    """The file that is to become `path`, under its temporary name `name`; `size` bytes were written into it.

    It is no file of Python's, so that numpy and torch too write through `write`: into a real one they write past it,
    and miss that the disk is full. Once it is, the rest is counted and dropped, so that the error can say how large
    the file is.
    """

    def __init__(self, path: Path) -> None:
        draft = Draft(path.with_name(f".{path.name}.tmp"))
        self._path, self._draft, self.name = path, draft, str(draft.path)
        self.size = 0
        self._refusal: OSError | None = None
        os.ftruncate(draft.descriptor, 0)

    def write(self, content: bytes | memoryview) -> int:
        """Append bytes; where that fails, `flush` says so."""
        view = memoryview(content)
        self.size += view.nbytes
        if self._refusal is None:
            try:
                append(self._draft.descriptor, view)
            except OSError as error:
                self._refusal = error
        return view.nbytes

    def flush(self) -> None:
        """Have readers of `name` find what was written.

        Raises:
            OSError: when the disk has refused any of it.
        """
        if self._refusal is not None:
            raise self._refusal

    def publish(self) -> None:
        """Give the file its name, once every byte is on the disk.

        Raises:
            OSError: when the disk has refused any of it.
        """
        self.flush()
        if (present := os.fstat(self._draft.descriptor).st_size) != self.size:
            raise OSError(errno.EIO, f"{present:,} of {self.size:,} bytes were written", str(self._path))
        self._draft.publish(self._path)

    def discard(self) -> None:
        """Leave nothing."""
        self._draft.discard()


def append(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of `content`, of which the system may take a part at a time.

    Raises:
        OSError: when the disk refuses any of it.
    """
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def with_room(error: OSError, path: Path, size: int | None = None) -> OSError | DiskFullError:
    """Return the error to raise for one met in writing `path`: of too little room, it says how much there is.

    `size` is the file's in bytes, where it is known.
    """
    if error.errno not in _FULL:
        return error
    takes = "" if size is None else f"it takes {size:,} bytes, and "
    return DiskFullError(
        f"cannot write {path}: {error.strerror}; {takes}{free_bytes(path):,} are free there; make room and call again, "
        "and it goes on where it was"
    )


@contextmanager
def room_for(path: Path, size: int | None = None) -> Iterator[None]:
    """Write into `path`, or make it, in a block; `size` is the file's in bytes, where it is known.

    Raises:
        DiskFullError: when there is no room for it.
    """
    try:
        yield
    except OSError as error:
        raise with_room(error, path, size) from None


def free_bytes(path: Path) -> int:
    """Return the bytes that are free on the disk of a path, which need not exist."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def megabytes(size: float) -> str:
    """Return bytes in words."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Publish `content` (bytes, or a function that writes them into an open file) as `path`, whole or not at all."""
    with atomic_file(path) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
    return path


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> Path:
    """Publish `value` as JSON (UTF-8, keys in the order given, a final newline).

    Raises:
        ValueError: when the value holds NaN or an infinity, which JSON cannot say.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    # Of a half of a character, as names of files may hold, that makes JSON's own escape.
    return write_atomic(path, f"{text}\n".encode(errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """The value in a JSON file (UTF-8 or UTF-16, with or without a byte order mark).

    Raises:
        FormatError: when the file is missing, is a folder, is not JSON, or has a key twice in an object; the message
            has line and column.
    """
    try:
        return load_json(read_text(path))
    except json.JSONDecodeError as error:
        raise FormatError(f"{path} is not JSON: {error}") from None
    except ValueError as error:  # of numbers with thousands of digits too
        raise FormatError(f"{path} cannot be used: {error}") from None
    except RecursionError:
        raise FormatError(f"{path} is not JSON of a kind that can be read: it is nested too deeply") from None


def require_plain(path: Path) -> None:
    """Refuse what may keep its reader waiting for ever.

    Raises:
        FormatError: when there is something else than a file or a folder: a pipe, a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FormatError(f"cannot read {path}: it is a pipe or a device; copy it to a file first")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        FormatError: when the file is missing, is a folder or a pipe, or is not such a text.
    """
    require_plain(path)
    try:
        return _decode(path.read_bytes(), "strict")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def file_sha256(path: Path) -> str:
    """The hex digest of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_head(path: Path, size: int = 1 << 20) -> str:
    """The first `size` bytes of a file as text, wrong bytes replaced; empty for a folder or a missing file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return _decode(file.read(size), "replace")


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text by its first bytes: UTF-16 where they say so, else UTF-8."""
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _decode(content: bytes, errors: str) -> str:
    return content.decode(encoding_of(content), errors)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
