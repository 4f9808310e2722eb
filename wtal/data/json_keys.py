"""JSON that is read strictly.

A key that stands twice in an object is refused with both places: the second value would silently replace the first. In
files that wtal writes itself, whatever it would not have written is damage, and one line says so.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from wtal.config import Record
from wtal.errors import ConfigError, WtalError

Kind = TypeVar("Kind", bound=Record)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def load_json(text: str) -> Any:
    """The value of a JSON text, in which no object has a key twice.

    Raises:
        ValueError: when it is not JSON, a key is there twice, or a text holds half a character; the message has line
            and column of the first two.
    """
    value = _decoded(STRICT, text)
    if "\\ud" in text or "\\uD" in text:
        _require_whole(value)
    return value


def _require_whole(value: Any) -> None:
    """Refuse half a character, a surrogate alone: no file but JSON can hold it, and no screen shows it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"a text holds {half} alone, half a character; write it as UTF-8") from None


def load_finite(text: str) -> Any:
    """The same of a text that wtal wrote, in which every number is finite.

    Raises:
        ValueError: as `load_json`, and for NaN and numbers beyond what floats hold.
    """
    return _decoded(_FINITE, text)


def _decoded(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except RepeatedKeyError:
        key, first, second = repeated_key(text)
        places = f"{_place(text, first)} and {_place(text, second)}"
        raise ValueError(f"key {key!r} is there twice: {places}; keep one of them") from None


def repeated_key(text: str, start: int = 0) -> tuple[str, int, int]:
    """The first key that an object has twice in the JSON value at `start`, and the positions of both.

    Raises:
        ValueError: when there is none.
    """
    objects: list[dict[str, int] | None] = []
    name, at = "", start
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in "{[":
            objects.append({} if mark == "{" else None)
        elif mark in "}]":
            objects.pop()
        elif mark != ":":
            name, at = mark, token.start()
        elif (keys := objects[-1]) is not None:
            key = json.loads(name)
            if key in keys:
                return key, keys[key], at
            keys[key] = at
    raise ValueError("no key is there twice")


def _place(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1} column {position - text.rfind(chr(10), 0, position)}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise RepeatedKeyError
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_object)
"""A decoder that raises `RepeatedKeyError` where an object has a key twice."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


_FINITE = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


def read_record(path: Path, kind: type[Kind], way_out: str, error: type[WtalError]) -> Kind:
    """Read a file of ours whose content is of a `kind`; `way_out` ends the line that refuses it.

    Raises:
        OSError: when the file cannot be opened.
        WtalError: an `error`, when it is anything else than such a file.
    """
    return checked(path, read_values(path, way_out, error), kind, way_out, error)


def read_values(path: Path, way_out: str, error: type[WtalError]) -> Any:
    """Read a JSON file of ours.

    Raises:
        OSError: when the file cannot be opened.
        WtalError: an `error`, when it is no JSON, has a key twice, or a number that is not finite.
    """
    return values_of(path, path.read_bytes(), way_out, error)


def values_of(path: Path, content: bytes, way_out: str, error: type[WtalError]) -> Any:
    """Read JSON of ours that stands in a file; raises what `read_values` does."""
    try:
        return load_finite(content.decode())
    except RecursionError:
        raise error(f"{path} is damaged (it is nested too deeply); {way_out}") from None
    except ValueError as refusal:
        raise error(f"{path} is damaged ({refusal}); {way_out}") from None


def checked(path: Path, values: Any, kind: type[Kind], way_out: str, error: type[WtalError]) -> Kind:
    """Check values of a file of ours; raises what `read_record` does."""
    try:
        return kind.parse(values)
    except ConfigError as refusal:
        raise error(f"{path} is damaged ({refusal}); {way_out}") from None
