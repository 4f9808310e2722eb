"""Files that appear whole or not at all, and how to read them.

What is written gets a temporary name in the same folder, is flushed to the disk, and is renamed.
"""

import codecs
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from wtal.data.json_keys import load_json
from wtal.errors import FormatError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write into; it takes the name `path` when the block ends well, and leaves nothing otherwise.

    A reader of `path` sees the old bytes or all of the new ones, also after a crash: the bytes reach the disk before
    the rename does. Missing folders above `path` are made.

    Raises:
        IsADirectoryError: when `path` is a folder; nothing is written then.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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
