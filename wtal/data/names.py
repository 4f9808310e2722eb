"""Match names of videos between two sources, such as a table and a folder or a store.

Names are written in many ways: with or without the extension, with folders, with backslashes, with composed or
decomposed letters (as on a Mac), with surrounding spaces, with the `v_` of ActivityNet. Only this module handles them.
"""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable
from functools import lru_cache
from pathlib import PurePath

from wtal.data.video_ids import is_video_name

_YOUTUBE_ID = 11  # characters
_DRIVE = re.compile(r"^[A-Za-z]:(?=/)")

Parts = tuple[str, ...]


class NamedId(str):
    """An id that remembers its path or name, for when the id alone does not identify a file."""

    path: str

    def __new__(cls, name: str, path: str) -> "NamedId":
        """Return the string `name` with the attribute `path`."""
        named = super().__new__(cls, name)
        named.path = path
        return named

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Return the arguments to recreate it, for copies and pickles."""
        return str(self), self.path


def plain_path(text: str) -> str:
    """Normalize a path: `/` between its parts, no drive, `./` or surrounding spaces, and composed letters."""
    path = unicodedata.normalize("NFC", " ".join(text.split())).replace("\\", "/")
    return PurePath(_DRIVE.sub("", path)).as_posix()


def bare_id(name: str) -> str:
    """Remove the prefix `v_` of ActivityNet's and HACS's file names from a video id.

    A YouTube id has 11 characters and may itself begin with `v_` (e.g. `v_UmAH95xls`): one of that length is unchanged.
    """
    return name if len(name) == _YOUTUBE_ID else name.removeprefix("v_")


def match_ids(wanted: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Map wanted names to present names that denote the same video; each present name at most once.

    Equal names come first, then those that are equal as plain paths, without the extension of a video, or except for a
    `v_` before either; then names of which one is the end of the other's path. Ambiguous names remain unmatched. Names
    are case-sensitive.
    """
    names = list(dict.fromkeys(wanted))
    left, free = dict.fromkeys(names), dict.fromkeys(present)
    matches: dict[str, str] = {}
    for wanted_key, present_key in _KEYS:
        _take(left, free, matches, _pairs(left, free, wanted_key, present_key))
        if not left or not free:
            break
    else:
        for bare in (False, True):
            _take(left, free, matches, _ends(left, free, bare))
    return {name: matches[name] for name in names if name in matches}


def match_id(name: str, present: Container[str]) -> str | None:
    """Return the id in `present` that equals `name`, ignoring a `v_` before either; None if there is none."""
    forms = (name, f"v_{name}", name.removeprefix("v_"))
    return next((form for form in forms if form in present), None)


def rivals(name: str, present: Iterable[str]) -> list[str]:
    """List the names in `present` that could all be the video `name`: of equal paths, or one the end of the other."""
    mine = _parts(name, bare=False)
    return [other for other in present if _common(mine, _parts(other, bare=False))]


def same_name(name: str, present: Iterable[str]) -> str | None:
    """Return another name in `present` for the same file: equal as plain paths without the extension of a video."""
    return next((other for other in present if other != name and _stem(other) == _stem(name)), None)


def nearest(name: str, present: Collection[str]) -> str | None:
    """Return the name in `present` most similar to `name`, ignoring case; None if none is similar."""
    folded = {_stem(other).casefold(): other for other in present}
    near = difflib.get_close_matches(_stem(name).casefold(), folded, n=1)
    return folded[near[0]] if near else None


def look_alike(name: str, present: Collection[str]) -> str | None:
    """Return the nearest name in `present` that differs only in capitals, blanks or the form of its letters, if any."""
    key = _without_blanks(name)
    return nearest(name, [other for other in present if other != name and _without_blanks(other) == key])


@lru_cache(1 << 16)
def _without_blanks(name: str) -> str:
    return unicodedata.normalize("NFKC", "".join(_stem(name).split())).casefold()


@lru_cache(1 << 16)
def _stem(name: str) -> str:
    path = PurePath(plain_path(name))
    return (path.with_suffix("") if is_video_name(path) else path).as_posix()


_KEYS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (str, str),
    (lambda name: f"v_{name}", str),
    (lambda name: name.removeprefix("v_"), str),
    (plain_path, plain_path),
    (_stem, _stem),
    (lambda name: f"v_{_stem(name)}", _stem),
    (lambda name: _stem(name).removeprefix("v_"), _stem),
)


def _pairs(
    left: Iterable[str], free: Iterable[str], wanted_key: Callable[[str], str], present_key: Callable[[str], str]
) -> dict[str, str]:
    """Pair names with equal keys, unless a third name has the same key."""
    there, here = defaultdict(list), defaultdict(list)
    for name in free:
        there[present_key(name)].append(name)
    for name in left:
        if (key := wanted_key(name)) in there:
            here[key].append(name)
    return {names[0]: there[key][0] for key, names in here.items() if len(names) == 1 == len(there[key])}


def _ends(left: Iterable[str], free: Iterable[str], bare: bool) -> dict[str, str]:
    """Pair names of which one is the end of the other's path, unless a third matches equally long."""
    there = defaultdict(list)
    for name in free:
        there[_parts(name, bare)[-1:]].append(name)
    claims: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in left:
        mine = _parts(getattr(name, "path", name), bare)
        lengths = [(_common(mine, _parts(other, bare)), other) for other in there.get(mine[-1:], ())]
        best = max((length for length, _ in lengths), default=0)
        fitting = [other for length, other in lengths if length == best]
        if best and len(fitting) == 1:
            claims[fitting[0]].append((best, name))
    pairs = {}
    for other, claimants in claims.items():
        best = max(length for length, _ in claimants)
        names = [name for length, name in claimants if length == best]
        if len(names) == 1:
            pairs[names[0]] = other
    return pairs


def _parts(name: str, bare: bool) -> Parts:
    parts = tuple(part for part in _stem(name).split("/") if part)
    return (*parts[:-1], parts[-1].removeprefix("v_")) if bare and parts else parts


def _common(mine: Parts, theirs: Parts) -> int:
    """Return the number of common parts at the ends of two paths if the shorter one matches entirely; else 0."""
    length = min(len(mine), len(theirs))
    return length if mine[-length:] == theirs[-length:] else 0


def _take(left: dict[str, None], free: dict[str, None], matches: dict[str, str], pairs: dict[str, str]) -> None:
    matches |= pairs
    for name, other in pairs.items():
        del left[name]
        del free[other]
