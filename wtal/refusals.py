"""Sentences on values that a configuration refuses: what was wanted, what came, and what to do.

Validation is pydantic's, but none of its sentences is shown: each of ours follows from the type of the refused key.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wtal.registry import nearest

_LONGEST = 80
"""Maximum number of characters of a value in an error message."""
_MOST = _LONGEST // 3
"""Maximum number of elements of a value that fit into that."""
_OWN_WORDS = ("value_error", "assertion_error")
"""Errors that our own validators raise."""
_KEY = "[key]"
"""Last part of the path of a table's key."""
_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
_SEVERAL = {int: "whole numbers", float: "numbers", bool: "true or false", str: "strings"}


def refusal(kind: type[BaseModel], error: ValidationError, section: str = "", by_hand: bool = True) -> str:
    """Return a sentence on the key of `section` that is refused first, beginning with its path.

    `by_hand` is for configurations, which people write in TOML; other values are JSON written by wtal.
    """
    return sentence_on(kind, _most_telling(error.errors(include_url=False)), section, by_hand)


def sentence_on(kind: type[BaseModel], error: Mapping[str, Any], section: str = "", by_hand: bool = True) -> str:
    """Return the sentence on one refused key, as `refusal` does on the first."""
    sections = tuple(section.split(".")) if section else ()
    path, came, fault = error["loc"], error["input"], error["type"]

    def naming(path: Sequence[int | str], sentence: str) -> str:
        name = dotted((*sections, *path))
        return f"{name}: {sentence}" if name else sentence

    if fault == "extra_forbidden":
        return f"unknown key {dotted((*sections, *path))!r}; {_suggested(kind, path, sections)}"
    if fault == "json_invalid":
        return f"wanted JSON, got {written(came)}"
    if fault in _OWN_WORDS:
        return naming(path, str(error["ctx"]["error"]))
    if path and path[-1] == _KEY:
        key = _wanted(_hint_at(kind, (*path[:-2], _KEY)), by_hand)
        return naming(path[:-2], f"wanted {key} as a key, got {written(came, by_hand)}")
    if fault == "missing" and not isinstance(path[-1], int):
        return f"{dotted((*sections, *path))} is missing; wanted {_wanted(_hint_at(kind, path), by_hand)}"
    if fault == "missing":
        path = path[:-1]  # an element of a list of fixed length
    hint = _hint_at(kind, path)
    wanted = _wanted(hint, by_hand)
    if fault == "finite_number":
        wanted = wanted.replace("a number", "a finite number", 1)
    advice = _advice(kind, path, hint, came) if by_hand else ""
    return naming(path, f"wanted {wanted}, got {written(came, by_hand)}{advice}")


def refused_truth(kind: type[BaseModel], values: object, section: str = "") -> str | None:
    """Return a sentence on the first true or false in place of a number; pydantic would accept them as 1 and 0."""
    for path, came in _truths(kind, values, ()):
        return sentence_on(kind, {"type": "number", "loc": path, "input": came}, section)
    return None


def _truths(hint: Any, value: object, path: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], bool]]:
    if isinstance(value, bool):
        base = _innermost(hint)
        if base in (int, float) or get_origin(base) is Literal:
            yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for part, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _truths(_below(hint, part), inner, (*path, part))


def dotted(path: Sequence[int | str]) -> str:
    """Write the path of a key: `section.key`, `section.list[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def shortened(value: object) -> str:
    """Format a value as in Python, in at most 80 characters."""
    try:
        return _cut(repr(value))
    except RecursionError:
        return f"a {type(value).__name__} of too many levels"


def written(value: object, by_hand: bool = True) -> str:
    """Format a value as in TOML, or as in JSON if not `by_hand`, in at most 80 characters."""
    return _cut(_written(value, " = " if by_hand else ": "))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _written(value: object, equals: str, levels: int = _LONGEST) -> str:
    """Write a value, or only the beginning of a large or deep one: the rest would be cut off."""
    if not levels:
        return "..."
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "null"
        case str():
            return repr(value[:_LONGEST])
        case dict():
            parts = islice(value.items(), _MOST)
            return "{" + ", ".join(f"{key}{equals}{_written(part, equals, levels - 1)}" for key, part in parts) + "}"
        case list() | tuple():
            return "[" + ", ".join(_written(part, equals, levels - 1) for part in value[:_MOST]) + "]"
        case BaseModel():
            return _written(value.model_dump(mode="json"), equals)
    return repr(value)


def _most_telling(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the first error; in place of a missing key, the misspelt one that stands for it."""
    first = errors[0]
    if first["type"] == "missing":
        for other in errors:
            near = other["type"] == "extra_forbidden" and nearest(str(other["loc"][-1]), [str(first["loc"][-1])])
            if near and other["loc"][:-1] == first["loc"][:-1]:
                return other
    return first


def _hint_at(kind: type[BaseModel], path: Sequence[int | str]) -> Any:
    """Return the type of the value at a path, with its bounds; Any where none is known."""
    hint: Any = kind
    for part in path:
        hint = _below(hint, part)
    return hint


def _below(hint: Any, part: int | str) -> Any:
    """Return the type of one part of a value: of a field, of an element, of a table's values or keys."""
    base, origin, parts = _bare(hint), get_origin(_bare(hint)), get_args(_bare(hint))
    if origin in (Union, types.UnionType):
        below = [inner for each in parts if (inner := _below(each, part)) is not Any]
        return below[0] if below else Any
    if isinstance(base, type) and issubclass(base, BaseModel):
        field = base.model_fields.get(str(part))
        return Any if field is None else Annotated[field.annotation, field]
    if is_typeddict(base):
        return get_type_hints(base).get(str(part), Any)
    if origin is dict:
        return parts[part != _KEY]
    if origin is tuple and parts[-1] is not Ellipsis:
        return parts[part] if isinstance(part, int) and part < len(parts) else Any
    return parts[0] if origin in (tuple, list) else Any


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _limits(hint: Any) -> dict[str, Any]:
    """Return the bounds that a type carries: `ge`, `gt`, `le`, `lt`, `multiple_of`, `min_length`, `pattern`, ..."""
    limits: dict[str, Any] = {}
    for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        for each in extra.metadata if isinstance(extra, FieldInfo) else [extra]:
            limits |= {key: value for key, value in _values(each) if value is not None}
        if isinstance(extra, FieldInfo) and extra.description:
            limits["description"] = extra.description
    if get_origin(_bare(hint)) is Annotated:
        limits = _limits(_bare(hint)) | limits
    return limits


def _values(limit: object) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a bound, whose classes have slots or not."""
    yield from vars(limit).items() if hasattr(limit, "__dict__") else ()
    for name in getattr(limit, "__slots__", ()):
        yield name, getattr(limit, name)


def _wanted(hint: Any, by_hand: bool) -> str:
    """Describe the values that a type accepts, as a noun phrase."""
    base, limits = _innermost(hint), _limits(hint)
    origin, parts = get_origin(base), get_args(base)
    if origin in (Union, types.UnionType):
        choices = [_wanted(each, by_hand) for each in parts if each is not type(None) or not by_hand]
        return " or ".join(dict.fromkeys(choices))
    if origin is Literal:
        return listed(parts)
    if origin in (tuple, list):
        return _wanted_list(origin, parts, limits)
    if origin is dict or base is dict or is_typeddict(base) or (isinstance(base, type) and issubclass(base, BaseModel)):
        return _wanted_table(base, parts, by_hand)
    if "pattern" in limits:
        return str(limits.get("description", f"text of the form {limits['pattern']}"))
    if base in _NOUNS:
        return f"{_NOUNS[base]}{_bounds(limits)}"
    return "any value" if base is Any else f"a {base.__name__.lower()}"


def _innermost(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = _bare(hint)
    return hint


def listed(choices: Sequence[object]) -> str:
    """Write choices as `hard, soft or none`."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def _wanted_list(origin: Any, parts: tuple[Any, ...], limits: Mapping[str, Any]) -> str:
    if origin is tuple and parts[-1] is not Ellipsis:
        kinds = {_several(part) for part in parts}
        return f"a list of {len(parts)} {kinds.pop() if len(kinds) == 1 else 'values'}"
    least = "one or more " if limits.get("min_length") else ""
    return f"a list of {least}{_several(parts[0])}"


def _wanted_table(base: Any, parts: tuple[Any, ...], by_hand: bool) -> str:
    noun = "a table" if by_hand else "an object"
    if isinstance(base, type) and issubclass(base, BaseModel):
        keys = list(base.model_fields)
        return f"{noun} with keys such as {keys[0]}" if keys else noun
    return f"{noun} of {_several(parts[1])}" if parts and parts[1] is not Any else noun


def _several(hint: Any) -> str:
    """Describe the values that a type accepts in the plural."""
    base = _innermost(hint)
    if get_origin(base) is Literal:
        return f"values out of {', '.join(map(str, get_args(base)))}"
    if base in _SEVERAL:
        bounds = _bounds(_limits(hint)).removeprefix(" of")
        return f"{_SEVERAL[base]}, each{bounds}" if bounds else _SEVERAL[base]
    if get_origin(base) in (tuple, list):
        return "lists"
    table = get_origin(base) is dict or (isinstance(base, type) and issubclass(base, BaseModel))
    return "tables" if table else "values" if base is Any else f"{base.__name__.lower()}s"


def _bounds(limits: Mapping[str, Any]) -> str:
    """Describe the bounds of a number, to follow its noun."""
    low, high = limits.get("ge"), limits.get("le")
    if low is not None and high is not None:
        text = f" from {low} to {high}"
    else:
        phrases = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
        bounds = [f"{phrases[name]} {limits[name]}" for name in phrases if name in limits]
        text = f" {' and '.join(bounds)}".replace(" and of ", " and ") if bounds else ""
    return f"{text}, divisible by {limits['multiple_of']}" if "multiple_of" in limits else text


def _advice(kind: type[BaseModel], path: tuple[int | str, ...], hint: Any, came: object) -> str:
    """Return what to do, to follow the sentence: the nearest choice, or the default if it shows how to write one."""
    base = _innermost(hint)
    if get_origin(base) in (tuple, list) and isinstance(came, str):
        return f"; write {written([came])}"
    if get_origin(base) is Literal and isinstance(came, str):
        near = nearest(came, [each for each in get_args(base) if isinstance(each, str)])
        if near:
            return f"; did you mean {near!r}?"
    owner = _innermost(_hint_at(kind, path[:-1])) if path else None
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or not path:
        return ""
    field = owner.model_fields.get(str(path[-1]))
    if field is None or field.is_required():
        return ""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel) or default in ("", None, (), {}):
        return ""
    return f"; the default is {written(default)}"


def _suggested(kind: type[BaseModel], path: tuple[int | str, ...], above: tuple[str, ...]) -> str:
    """Return the nearest key of the section, or the same key of another section, and the keys of the section."""
    section, last = path[:-1], str(path[-1])
    here = _fields_at(kind, section)
    if near := nearest(last, here):
        candidates = [dotted((*above, *section, near))]
    else:
        candidates = [key for key in _keys(kind) if key.rpartition(".")[2] == last]
    hint = f"did you mean {candidates[0]!r}? " if candidates else ""
    return f"{hint}choices: {', '.join(sorted(here)) or 'none'}"


def _fields_at(kind: type[BaseModel], section: tuple[int | str, ...]) -> list[str]:
    at = _innermost(_hint_at(kind, section))
    for base in (at, *get_args(at)):
        if isinstance(base, type) and issubclass(base, BaseModel):
            return list(base.model_fields)
        if is_typeddict(base):
            return list(get_type_hints(base))
    return []


def _keys(kind: type[BaseModel], before: str = "", above: tuple[type[BaseModel], ...] = ()) -> Iterator[str]:
    """Yield the keys of a class and of its sections, with dots; a class within itself has no more keys."""
    above = (*above, kind)
    for name, field in kind.model_fields.items():
        hint = field.annotation
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        sections = [each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)]
        for section in (each for each in sections if each not in above):
            yield from _keys(section, f"{before}{name}.", above)
        if not sections:
            yield f"{before}{name}"
