"""JSON files larger than memory, read value by value.

A file of many small values in a few large ones, such as detections, needs a buffer of a few MiB whatever its length.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from wtal.data.files import encoding_of
from wtal.data.parsing.json_keys import STRICT, RepeatedKeyError, repeated_key
from wtal.data.regular import require_regular
from wtal.errors import FormatError

CHUNK = 1 << 20
"""Number of characters read at once."""

LIMIT = 1 << 25
"""Maximum number of characters of a value that is read whole: no file of the field comes near it."""

_MARGIN = len("-Infinity")
"""Characters at the buffer's end in which a number or a word may be split: the length of the longest word."""

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonStream:
    """Forward reader of JSON text: `members` and `items` enter the next value, `value` reads it whole.

    The caller reads the value of a member before requesting the next one. All methods raise FormatError, with line and
    column, if the text is not JSON.
    """

    def __init__(self, file: TextIO, name: str, chunk: int = CHUNK) -> None:
        self._file, self._name, self._chunk = file, name, chunk
        self._text, self._at, self._ended = "", 0, False
        self._lines = self._columns = 0  # before the buffer
        self._dropped = 0
        self.key_at = 0
        """Number of characters before the last key from `members`; `repeated` converts it to a line."""

    @classmethod
    @contextmanager
    def open(cls, path: Path, chunk: int = CHUNK) -> "Iterator[JsonStream]":
        """Open a file of UTF-8 or UTF-16 text.

        Raises:
            FormatError: when the file cannot be read, is not such text, or is not JSON.
        """
        require_regular(path)
        try:
            with path.open("rb") as raw:
                encoding = encoding_of(raw.read(4))
                raw.seek(0)
                yield cls(io.TextIOWrapper(raw, encoding, newline=""), str(path), chunk)
        except OSError as error:
            raise FormatError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeError:
            raise FormatError(f"{path} is not UTF-8 text; save it as UTF-8") from None

    def peek(self) -> str:
        """Return the first character of the next value, `{` for an object, `[` for an array; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._fill(self._chunk):
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """Read the next value, whole."""
        size = self._chunk
        while True:
            self.peek()
            value, end, problem = _scanned(self._text, self._at)
            inside = end + _MARGIN <= len(self._text) and "Unterminated" not in problem
            if not problem and (inside or self._ended):
                self._require_once(value, end)
                self._at = end
                return value
            if problem and (inside or self._ended):
                raise self._error(problem, end)
            self._fill(size)
            size *= 2

    def _require_once(self, value: Any, end: int) -> None:
        """Refuse a repeated key in an object: then there are more colons than keys, as in few other values."""
        if self._text.count(":", self._at, end) == _keys(value):
            return
        try:
            STRICT.raw_decode(self._text, self._at)
        except RepeatedKeyError:
            key, first, second = repeated_key(self._text, self._at)
            places = f"{self._named(first)} and {self._named(second)}"
            raise FormatError(f"{self._name}: key {key!r} occurs twice: {places}; keep one of them") from None

    def members(self) -> Iterator[str]:
        """Yield the keys of the next object."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._error("Expecting property name enclosed in double quotes", self._at)
            self.key_at = self._dropped + self._at
            key: str = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def items(self) -> Iterator[Any]:
        """Yield the values of the next array."""
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def repeated(self, key: str, first: int) -> FormatError:
        """Return the error for the last key from `members`, seen before at `first`; the stream is unusable then."""
        places = (self._named_from_start(first), self._named_from_start(self.key_at))
        return FormatError(f"{self._name}: {key} occurs twice: {places[0]} and {places[1]}; keep one of them")

    def end(self) -> None:
        """Refuse anything after the last value."""
        if self.peek():
            raise self._error("Extra data", self._at)

    def _take(self, wanted: str) -> str:
        character = self.peek()
        if not character or character not in wanted:
            raise self._error(f"Expecting {' or '.join(map(repr, wanted))}", self._at)
        self._at += 1
        return character

    def _fill(self, size: int) -> bool:
        """Drop the consumed text and read on; return False at the file's end."""
        if len(self._text) - self._at > LIMIT:
            raise self._error(f"a value is longer than {LIMIT >> 20} Mi characters", self._at)
        more = "" if self._ended else self._file.read(size)
        if more:
            self._lines, self._columns = self._place(self._at)
            self._dropped += self._at
            self._text, self._at = self._text[self._at :] + more, 0
        self._ended = not more
        return bool(more)

    def _place(self, position: int) -> tuple[int, int]:
        """Return the numbers of lines, and of characters of the last line, before a position in the buffer."""
        lines, last = self._text.count("\n", 0, position), self._text.rfind("\n", 0, position)
        return self._lines + lines, position - last - 1 if lines else self._columns + position

    def _error(self, problem: str, position: int) -> FormatError:
        return FormatError(f"{self._name} is not JSON: {problem}: {self._named(position)}")

    def _named_from_start(self, position: int) -> str:
        self._file.seek(0)
        before, lines, last = 0, 0, -1
        while before < position and (text := self._file.read(min(self._chunk, position - before))):
            lines += text.count("\n")
            last = before + text.rfind("\n") if "\n" in text else last
            before += len(text)
        return f"line {lines + 1} column {position - last}"

    def _named(self, position: int) -> str:
        line, column = self._place(position)
        return f"line {line + 1} column {column + 1}"


def _keys(value: Any) -> int:
    """Count the keys of the objects in a value; in a list, only of objects that are its items."""
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    return sum(len(item) for item in value if type(item) is dict) if isinstance(value, list) else 0


def _scanned(text: str, at: int) -> tuple[Any, int, str]:
    """Parse the value at a position: (value, end, ""), or (None, position of the error, message)."""
    try:
        return *_DECODER.raw_decode(text, at), ""
    except json.JSONDecodeError as error:
        return None, error.pos, error.msg
    except RecursionError:
        return None, at, "it is nested too deeply"
    except ValueError:
        return None, at, "a number has too many digits"
