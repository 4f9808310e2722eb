"""JSON in which a key stands twice is refused with both places: the second value would silently replace the first."""

import json
import re
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def load_json(text: str) -> Any:
    """The value of a JSON text, in which no object has a key twice.

    Raises:
        ValueError: when it is not JSON or a key is there twice; the message has line and column.
    """
    try:
        return STRICT.decode(text)
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
