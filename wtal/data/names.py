"""Names of videos on two sides, a table's and a folder's or a store's: which of them mean the same file.

Names are written in many ways: with and without the ending, with folders before them, with backslashes, with composed
or decomposed letters (a Mac's), with blanks around them, with the `v_` of ActivityNet. All that is read here alone.
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
    """An id that remembers the path or name that it was made from, for where the id alone does not tell a file."""

    path: str

    def __new__(cls, name: str, path: str) -> "NamedId":
        """Return the text `name` with the path beside it."""
        named = super().__new__(cls, name)
        named.path = path
        return named

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Return what makes it again, as copies and pickles need it."""
        return str(self), self.path


def plain_path(text: str) -> str:
    """A path with `/` between its parts, without a drive, `./` and blanks around it; its letters composed."""
    path = unicodedata.normalize("NFC", " ".join(text.split())).replace("\\", "/")
    return PurePath(_DRIVE.sub("", path)).as_posix()


def bare_id(name: str) -> str:
    """A video id without the `v_` that ActivityNet and HACS put before it in file names.

    A YouTube id has 11 characters and may itself begin with `v_` (`v_UmAH95xls` does): one of that length stays whole.
    """
    return name if len(name) == _YOUTUBE_ID else name.removeprefix("v_")


def match_ids(wanted: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Names that are wanted -> names that are present, where one means the other; each present name at most once.

    Equal names come first, then those that are equal as plain paths, without the ending of a video, or but for a `v_`
    before either; then names of which one is the end of the other's path. A name that could mean several, or that
    several could mean, is matched with none of them. Capitals and small letters are different names.
    """
    names = list(dict.fromkeys(wanted))
    left, free = dict.fromkeys(names), dict.fromkeys(present)
    matches: dict[str, str] = {}
    for mine, theirs in _KEYS:
        _take(left, free, matches, _pairs(left, free, mine, theirs))
        if not left or not free:
            break
    else:
        for bare in (False, True):
            _take(left, free, matches, _ends(left, free, bare))
    return {name: matches[name] for name in names if name in matches}


def match_id(name: str, present: Container[str]) -> str | None:
    """The id among `present` that is equal to `name`, or equal but for a `v_` before either; None where none is."""
    forms = (name, f"v_{name}", name.removeprefix("v_"))
    return next((form for form in forms if form in present), None)


def nearest(name: str, present: Collection[str]) -> str | None:
    """The name among `present` that is most like `name`, capitals aside; None where none is like it."""
    folded = {_stem(other).casefold(): other for other in present}
    near = difflib.get_close_matches(_stem(name).casefold(), folded, n=1)
    return folded[near[0]] if near else None


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
    left: Iterable[str], free: Iterable[str], mine: Callable[[str], str], theirs: Callable[[str], str]
) -> dict[str, str]:
    """Pairs of names whose keys are equal, where no third name has the key."""
    there, here = defaultdict(list), defaultdict(list)
    for name in free:
        there[theirs(name)].append(name)
    for name in left:
        if (key := mine(name)) in there:
            here[key].append(name)
    return {names[0]: there[key][0] for key, names in here.items() if len(names) == 1 == len(there[key])}


def _ends(left: Iterable[str], free: Iterable[str], bare: bool) -> dict[str, str]:
    """Pairs of which one is the end of the other's path, where neither fits a third as long."""
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
    """Return how many parts of a path's end are shared, where that is all of the shorter one; else 0."""
    length = min(len(mine), len(theirs))
    return length if mine[-length:] == theirs[-length:] else 0


def _take(left: dict[str, None], free: dict[str, None], matches: dict[str, str], pairs: dict[str, str]) -> None:
    matches |= pairs
    for name, other in pairs.items():
        del left[name]
        del free[other]
