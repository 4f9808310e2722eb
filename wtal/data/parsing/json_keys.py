"""Strict reading of JSON.

A key that occurs twice in an object is refused, with both places: the second value would silently replace the first. In
files that wtal writes itself, anything that it would not have written is damage, reported in one line.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from wtal.config import Config
from wtal.data.regular import require_regular
from wtal.errors import ConfigError, WtalError

Kind = TypeVar("Kind", bound=Config)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')


class RepeatedKeyError(ValueError):
    """Error of an object with a repeated key."""


def load_json(text: str) -> Any:
    """Parse JSON text in which no object has a key twice.

    Raises:
        ValueError: when it is not JSON, a key occurs twice (both with line and column), or a string has an unpaired
            surrogate.
    """
    value = _decoded(STRICT, text)
    if "\\ud" in text or "\\uD" in text:
        require_whole(value)
    return value


def require_whole(value: Any) -> None:
    """Refuse an unpaired surrogate, half a character: no other file can represent it, and no screen shows it.

    Raises:
        ValueError: naming the surrogate.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"a string has an unpaired surrogate {half}; write the character as UTF-8") from None


def load_finite(text: str) -> Any:
    """Parse JSON text written by wtal, in which every number is also finite.

    Raises:
        ValueError: as in `load_json`, and for NaN and numbers beyond the range of floats.
    """
    return _decoded(_FINITE, text)


def _decoded(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except RepeatedKeyError:
        key, first, second = repeated_key(text)
        places = f"{_place(text, first)} and {_place(text, second)}"
        raise ValueError(f"key {key!r} occurs twice: {places}; keep one of them") from None


def repeated_key(text: str, start: int = 0) -> tuple[str, int, int]:
    """Find the first repeated key of an object in the JSON value at `start`; return it with both positions.

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
    raise ValueError("no key occurs twice")


def _place(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1} column {position - text.rfind(chr(10), 0, position)}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise RepeatedKeyError
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_object)
"""Decoder that raises `RepeatedKeyError` for an object with a repeated key."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


_FINITE = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


def read_record(path: Path, kind: type[Kind], way_out: str, error: type[WtalError]) -> Kind:
    """Read a file written by wtal as a record of a `kind`; `way_out` is the remedy at the end of an error message.

    Raises:
        OSError: when the file cannot be opened.
        WtalError: an `error`, when it is not such a file.
    """
    return checked(path, read_values(path, way_out, error), kind, way_out, error)


def read_values(path: Path, way_out: str, error: type[WtalError]) -> Any:
    """Read a JSON file written by wtal.

    Raises:
        OSError: when the file cannot be opened.
        WtalError: an `error`, when it is a pipe, is not JSON, or has a repeated key or a number that is not finite.
    """
    require_regular(path, error)
    return values_of(path, path.read_bytes(), way_out, error)


def values_of(path: Path, content: bytes, way_out: str, error: type[WtalError]) -> Any:
    """Parse JSON content of a file written by wtal; raises as `read_values`."""
    try:
        return load_finite(content.decode())
    except RecursionError:
        raise error(f"{path} is damaged (it is nested too deeply); {way_out}") from None
    except json.JSONDecodeError as refusal:
        raise error(f"{path} is damaged (it is not JSON: {refusal}); {way_out}") from None
    except ValueError as refusal:
        raise error(f"{path} is damaged ({refusal}); {way_out}") from None


def checked(path: Path, values: Any, kind: type[Kind], way_out: str, error: type[WtalError], section: str = "") -> Kind:
    """Check the values of a file written by wtal, or of one of its sections; raises as `read_record`."""
    try:
        return kind.parse(values, section=section, by_hand=False)
    except ConfigError as refusal:
        raise error(f"{path} is damaged ({refusal}); {way_out}") from None
