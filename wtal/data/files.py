"""Write files whole or not at all, and read them.

Content gets a temporary name in the same folder, is flushed to disk, checked for its size, and renamed. The name is
locked during writing: other writers of the same file wait, and the remains of a killed process are overwritten.
"""

import codecs
import errno
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from wtal.data.locks import Draft, sweep
from wtal.data.parsing.json_keys import load_json
from wtal.data.regular import require_regular
from wtal.errors import AbsentError, ConfigError, DiskFullError, FormatError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors due to lack of space: on the disk, in a quota, or by a limit of file size."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing; it becomes `path` when the block succeeds, and leaves nothing otherwise.

    A reader of `path` sees the old bytes or all of the new ones, even after a crash: the bytes reach the disk before
    the rename. Missing folders above `path` are created.

    Raises:
        IsADirectoryError: when `path` is a folder; nothing is written then.
        DiskFullError: when there is no space for the file; the message includes its size.
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
    """Yield a path for a library that opens files itself; the file written there becomes `path` as in `atomic_file`.

    Reporting a full disk is up to the library.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Draft(_draft_of(path))
    try:
        yield draft.path
        draft.publish(path)
    except BaseException:
        draft.discard()
        raise
    _sync_folder(path.parent)


@contextmanager
def swept(paths: Iterable[Path]) -> Iterator[None]:
    """Remove unfinished files of `paths` after an error in the block: their writers, other processes, were killed."""
    try:
        yield
    except BaseException:
        for draft in map(_draft_of, paths):
            if draft.exists():
                sweep(draft)
        raise


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


class _Written:
    """The future `path`, under its temporary name `name`; `size` bytes were written to it.

    It is not a Python file object, so that numpy and torch also write through `write`: they would bypass that of a real
    file, and miss a full disk. Once the disk is full, the rest is counted and dropped, so that the error can state the
    size of the file.
    """

    def __init__(self, path: Path) -> None:
        draft = Draft(_draft_of(path))
        self._path, self._draft, self.name = path, draft, str(draft.path)
        self.size = 0
        self._refusal: OSError | None = None
        os.ftruncate(draft.descriptor, 0)

    def write(self, content: bytes | memoryview) -> int:
        """Append bytes; failures are reported by `flush`."""
        view = memoryview(content)
        self.size += view.nbytes
        if self._refusal is None:
            try:
                append(self._draft.descriptor, view)
            except OSError as error:
                self._refusal = error
        return view.nbytes

    def flush(self) -> None:
        """Make the written bytes visible to readers of `name`.

        Raises:
            OSError: when writing any of them failed.
        """
        if self._refusal is not None:
            raise self._refusal

    def publish(self) -> None:
        """Give the file its name, once every byte is on the disk.

        Raises:
            OSError: when writing any of them failed.
        """
        self.flush()
        if (present := os.fstat(self._draft.descriptor).st_size) != self.size:
            raise OSError(errno.EIO, f"{present:,} of {self.size:,} bytes were written", str(self._path))
        self._draft.publish(self._path)

    def discard(self) -> None:
        """Remove the file."""
        self._draft.discard()


def append(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of `content`, which the system may accept in parts.

    Raises:
        OSError: when writing any of it fails.
    """
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def with_room(error: OSError, path: Path, size: int | None = None) -> OSError | DiskFullError:
    """Return the error to raise for one that occurred in writing `path`; for lack of space, it includes the free space.

    `size` is that of the file in bytes, if known.
    """
    if not is_full(error):
        return error
    takes = "" if size is None else f"it takes {size:,} bytes, and "
    return DiskFullError(
        f"cannot write {path}: {error.strerror}; {takes}{free_bytes(path):,} are free there; make room and run again "
        "to resume"
    )


def is_full(error: BaseException) -> bool:
    """Return whether an error is due to lack of space; those of ffmpeg are recognized too."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def room_for(path: Path, size: int | None = None) -> Iterator[None]:
    """Translate errors of a block that writes to `path`, or creates it; `size` is the file's in bytes, if known.

    Raises:
        DiskFullError: when there is no space for it.
    """
    try:
        yield
    except OSError as error:
        raise with_room(error, path, size) from None


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def megabytes(size: float) -> str:
    """Format bytes as megabytes."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Publish `content` (bytes, or a function that writes them to an open file) as `path`, whole or not at all."""
    with atomic_file(path) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
    return path


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> Path:
    """Publish `value` as JSON (UTF-8, keys in the order given, a final newline).

    Raises:
        ValueError: when the value includes NaN or an infinity, which JSON cannot represent.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    # A lone surrogate, possible in file names, becomes JSON's own escape.
    return write_atomic(path, f"{text}\n".encode(errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """Read the value in a JSON file (UTF-8 or UTF-16, with or without a byte order mark).

    Raises:
        FormatError: when the file is missing, is a folder, is not JSON, or has a key twice in an object; the message
            includes line and column.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path) -> Any:
    """Parse the text of a JSON file.

    Raises:
        FormatError: when it is not JSON, or has a key twice in an object; the message includes line and column.
    """
    try:
        return load_json(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"{path} is not JSON: {error}") from None
    except ValueError as error:  # also for numbers with thousands of digits
        raise FormatError(f"{path} cannot be used: {error}") from None
    except RecursionError:
        raise FormatError(f"{path} cannot be used: it is nested too deeply") from None


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        FormatError: when the file is missing, is a folder or a pipe, or is not such text.
    """
    return parse_text(read_content(path), path)


def read_content(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        FormatError: when the file is missing, or is a folder or a pipe.
    """
    require_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None


def parse_text(content: bytes, path: Path) -> str:
    """Decode the content of a text file in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        FormatError: when it is not such text.
    """
    try:
        return _decode(content, "strict")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigError: when the file is missing or is not TOML.
        WrongKindError: when it is a pipe or a device.
    """
    require_regular(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AbsentError(f"there is no recipe at {path}; `wtal list recipes` names those of the package") from None
    except (ValueError, RecursionError) as error:  # also for numbers with thousands of digits, and for nesting
        raise ConfigError(f"{path} is not TOML: {error}") from None


def file_sha256(path: Path) -> str:
    """Compute the hex digest of a regular file's content, read in chunks."""
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_head(path: Path, size: int = 1 << 20) -> str:
    """Read the first `size` bytes of a file as text, invalid bytes replaced; empty for a folder or a missing file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return _decode(file.read(size), "replace")


def encoding_of(head: bytes) -> str:
    """Return the encoding of text by its first bytes: UTF-16 with its byte order mark, else UTF-8."""
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
