"""Damage to the bytes of a file by disks, editors and malicious people, all from one seed."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np

ODD = (
    None,
    True,
    "",
    "x",
    -1,
    0,
    1.5,
    10**30,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[[]]]],
    {"x": {"x": []}},
    "\ud800",
    "\0",
    "../../outside",
    "/",
    "1/0",
    "long" * 1000,
)
"""Values that some reader may misread: other types, huge, not finite, empty, half characters, paths outside."""

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_NUMBERS = (b"", b"-1", b"0", b"nan", b"inf", b"1e400", b"9" * 25, b"9" * 5000, b"1e-320", b"0x10", b"1,5", b"true")


def bitten(rng: np.random.Generator, content: bytes) -> bytes:
    """Return the bytes with one of a dozen kinds of damage that ignore the format."""
    size = max(len(content), 1)
    at, other = (int(place) for place in rng.integers(0, size, 2))
    low, high = min(at, other), max(at, other) + 1
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: content[:at],
        lambda: content[at:],
        lambda: b"",
        lambda: content[:low] + content[high:],
        lambda: content[:high] + content[low:],
        lambda: content[:low] + bytes(high - low) + content[high:],
        lambda: content[:at] + rng.bytes(8) + content[at + 8 :],
        lambda: content + rng.bytes(64),
        lambda: content + content,
        lambda: rng.bytes(min(size, 4096)),
        lambda: flipped(rng, content, 1),
        lambda: flipped(rng, content, 20),
    )
    return kinds[rng.integers(len(kinds))]()


def flipped(rng: np.random.Generator, content: bytes, count: int) -> bytes:
    """Return the bytes with some bits flipped, as disks and copies do."""
    array = np.frombuffer(content, np.uint8).copy()
    if array.size:
        array[rng.integers(0, array.size, count)] ^= np.uint8(1) << rng.integers(0, 8, count, dtype=np.uint8)
    return array.tobytes()


def miswritten(rng: np.random.Generator, content: bytes) -> bytes:
    """Return a text (a table, a recipe, a list) with a changed number, line or character."""
    lines = content.splitlines(keepends=True) or [b""]
    at, other = (int(place) for place in rng.integers(0, len(lines), 2))
    numbers = list(_NUMBER.finditer(content))
    kind = rng.integers(6)
    if kind < 3 and numbers:
        number = numbers[rng.integers(len(numbers))]
        return content[: number.start()] + _NUMBERS[rng.integers(len(_NUMBERS))] + content[number.end() :]
    if kind == 3:
        return b"".join([*lines[:at], lines[other], *lines[at:]])
    if kind == 4:
        return b"".join([*lines[:at], *lines[at + 1 :]])
    place = int(rng.integers(len(content) + 1))
    marks = (b'"', b"'", b",", b";", b"\n", b"[", b"}", b"=", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b" ")
    return content[:place] + marks[rng.integers(len(marks))] + content[place:]


def rewritten(rng: np.random.Generator, content: bytes) -> bytes:
    """Return valid JSON with wrong content: a changed value, key or list."""
    value = json.loads(content)
    places = list(_places(value))
    if not places or rng.integers(12) == 0:
        return _text(_odd(rng))
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(_odd(rng))] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict):
        holder[f"{key}{'x' * int(rng.integers(2))}2"] = holder[key]
    elif kind == 3 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 4 and isinstance(holder, dict):
        return _twice(_text(value), key)
    elif kind == 5 and rng.integers(4) == 0:
        holder[key] = "nested too deeply"
        depth = int(rng.integers(100, 1000)) if rng.integers(2) else 100_000
        opening, closing = (b"[", b"]") if rng.integers(2) else (b'{"x":', b"}")
        return _text(value).replace(b'"nested too deeply"', opening * depth + b"1" + closing * depth)
    else:
        holder[key] = _odd(rng)
    return _text(value)


def _odd(rng: np.random.Generator) -> Any:
    return ODD[rng.integers(len(ODD))]


def _places(value: Any) -> Any:
    """Yield the holder and the key or index of everything in a JSON value, holders first."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _twice(text: bytes, key: str) -> bytes:
    return text.replace(_text(key) + b":", _text(key) + b": 1, " + _text(key) + b":", 1)


def repacked(rng: np.random.Generator, content: bytes) -> bytes:
    """Return a packed model with a changed description and correct digests."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        entries = {name: packed.read(name) for name in packed.namelist()}
    arrays = [name for name in entries if name.endswith(".npy")]
    if rng.integers(3) == 0 and arrays:
        name = arrays[rng.integers(len(arrays))]
        entries[name] = bitten(rng, entries[name])
        description = json.loads(entries["model.json"])
        description["entries"][name] = sha256(entries[name]).hexdigest()
        entries["model.json"] = _text(description)
    else:
        entries["model.json"] = rewritten(rng, entries["model.json"])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for name, entry in entries.items():
            packed.writestr(name, entry)
    return file.getvalue()


def mixed(rng: np.random.Generator, content: bytes, *others: Callable[[np.random.Generator, bytes], bytes]) -> bytes:
    """Return the content with damage of one kind, damaged bytes included."""
    kinds = (bitten, *others, *others)
    return kinds[rng.integers(len(kinds))](rng, content)
