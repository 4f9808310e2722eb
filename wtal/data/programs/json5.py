"""JSON5, JSON for people and JavaScript programs: bare keys, single quotes, comments, trailing commas.

Numbers are those of JSON, with an optional sign, and possibly with a point at either end; hexadecimal ones, which do
not occur in the field's files, are refused. The grammar is that of spec.json5.org.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wtal.data.files import read_text
from wtal.data.parsing.json_keys import load_json
from wtal.errors import FormatError

_TOKEN = re.compile(
    r"""(?P<blank>[\s\u00a0\u2028\u2029\ufeff]+|//[^\n\r]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w$.]))
    |(?P<key>(?:[^\W\d]|\$)[\w$]*(?=\s*:))
    |(?P<word>true|false|null)(?![\w$])
    |(?P<mark>[{}\[\]:,])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|\r\n|.)", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_BREAKS = ("\n", "\r\n", "\r", "\u2028", "\u2029")
"""Line ends, which are removed after a backslash."""


def read_json5(path: Path) -> Any:
    """Read the value in a JSON5 file.

    Raises:
        FormatError: when the file is missing, is not JSON5, or has a key twice in an object.
    """
    text = read_text(path)
    try:
        return load_json("".join(_plain(text)))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON5: {error}") from None
    except RecursionError:
        raise FormatError(f"{path} cannot be used: its JSON5 is nested too deeply") from None


def _plain(text: str) -> Iterator[str]:
    """Yield the tokens of JSON5 as those of JSON.

    Raises:
        ValueError: when the text is not JSON5, naming the line.
    """
    at, comma = 0, False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20].splitlines()[0]!r}")
        at = token.end()
        if token.lastgroup == "blank":
            yield "\n" * token[0].count("\n")
            continue
        if comma and token[0] not in "}]":
            yield ","
        comma = token[0] == ","
        if not comma:
            yield _as_json(token)


def _as_json(token: re.Match[str]) -> str:
    content = token[0]
    if token.lastgroup == "text":
        return json.dumps(_ESCAPE.sub(_character, content[1:-1]))
    if token.lastgroup == "number":
        whole, _, fraction = content.lstrip("+").partition(".")
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        return f"{sign}{digits or 0}.{fraction}" if fraction and fraction[0].isdigit() else f"{sign}{digits}{fraction}"
    return json.dumps(content) if token.lastgroup == "key" else content


def _character(escape: re.Match[str]) -> str:
    name = escape[1]
    if name[0] in "ux" and len(name) > 1:
        return chr(int(name[1:], 16))
    return "" if name in _BREAKS else _LETTERS.get(name, name)
