"""Strict, frozen, typed configuration (class default < recipe < `--set key=value`) and its digest."""

import ast
import hashlib
import inspect
import itertools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from wtal.errors import ConfigError, OverrideError, UsageError
from wtal.refusals import refusal, refused_truth, written

Built = TypeVar("Built")

_LARGEST = 2**31 - 1
"""Largest whole number of a configuration."""
_LARGEST_FLOAT = 1e30
"""Largest other number: close to the limit of float32, in which most are used."""
_DEEPEST = 50
"""Maximum number of levels of a JSON object whose keys are not all known."""


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys refused, numbers finite, comparable by content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )
    by_hand: ClassVar[bool] = True
    """True if people write the values, in TOML: error messages then name the defaults."""

    @classmethod
    def parse(cls, values: object, where: str = "", section: str = "", by_hand: bool | None = None) -> Self:
        """Validate `values`; error messages begin with `where` (a file) and name keys as those of `section`.

        `by_hand` is that of the class unless given: False for a configuration stored by wtal.

        Raises:
            ConfigError: for the first key that is unknown or has an invalid value, in one line, with a suggestion.
        """
        by_hand = cls.by_hand if by_hand is None else by_hand
        try:
            if by_hand and (reason := refused_truth(cls, values, section)):
                raise ConfigError(reason)
            config = cls.model_validate(values)
            config._refuse_huge(section)
            return config
        except ValidationError as error:
            reason = refusal(cls, error, section, by_hand)
            raise ConfigError(f"{where}: {reason}" if where else reason) from None
        except ConfigError as error:  # from a validator, which has no access to `where`
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None

    def _refuse_huge(self, section: str = "") -> None:
        """Refuse absurdly large numbers before anything is allocated by them."""
        for name, value in self.__dict__.items():
            key = f"{section}.{name}".removeprefix(".")
            if isinstance(value, Config):
                value._refuse_huge(key)
            elif isinstance(value, int | float):
                largest = _LARGEST if isinstance(value, int) else _LARGEST_FLOAT
                if abs(value) > largest:
                    raise ConfigError(f"{key}: wanted a number between -{largest} and {largest}, got {written(value)}")

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON types, in declaration order."""
        return self.model_dump(mode="json")


class Record(Config):
    """Base of the content of files written by wtal: a configuration, but without conversion of types."""

    model_config = ConfigDict(strict=True, coerce_numbers_to_str=False)
    by_hand: ClassVar[bool] = False

    def _refuse_huge(self, section: str = "") -> None:
        """Accept all numbers: fields bound their own."""


def shallow(value: dict[str, Any]) -> dict[str, Any]:
    """Accept a JSON object of a few levels; libraries cannot write hundreds of them.

    Raises:
        ValueError: when it is nested more deeply.
    """
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        holders = [each for each in level if isinstance(each, dict | list)]
        if not holders:
            return value
        level = [item for each in holders for item in (each.values() if isinstance(each, dict) else each)]
    raise ValueError(f"it has more than {_DEEPEST} levels")


def conforming(kind: type[Record]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Validator of pydantic that passes a JSON object on as it is if it parses as a `kind`."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    return check


def meanings(config: type[Config]) -> dict[str, str]:
    """Key -> the text below it in the source of its class, on one line; keys without one are missing."""
    texts = {}
    for part in reversed([part for part in config.__mro__ if issubclass(part, Config)]):
        tree = ast.parse(inspect.getsource(part))
        body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)).body
        for field, after in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and (text := _text_of(after)):
                texts[field.target.id] = " ".join(text.split())
    return texts


def _text_of(node: ast.stmt) -> str:
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def digest(value: Any, length: int = 6) -> str:
    """Compute the hex digest of a JSON value: equal values have equal digests, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Copy nested `values` and apply dotted assignments: `head.top_k_ratio=6`.

    The right side is parsed as a TOML value, or else is plain text.

    Raises:
        OverrideError: when an assignment has no `=`, or its key has a value in place of a section.
    """
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise OverrideError(f"--set takes section.key=value, got {assignment!r}")
        *sections, last = key.strip().split(".")
        table = result
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise OverrideError(f"--set {assignment}: {section!r} is a value, not a section")
        table[last] = _value(text.strip())
    return result


def build_overridden(
    assignments: Sequence[str], build: Callable[[Sequence[str]], Built], spelled: Mapping[str, str] | None = None
) -> Built:
    """Build something with `--set` assignments; an error names the refused one as it appears in the call.

    `spelled` is for assignments that come from other options: assignment -> that option and its value.

    Raises:
        OverrideError: when an assignment is refused, but not the values that it overrides.
        ConfigError: when these are refused already.
    """
    try:
        return build(assignments)
    except ConfigError as error:
        if not assignments:
            raise
        build(())
        culprit, reason = _first_refused(assignments, build) or (assignments[-1], str(error))
        call = (spelled or {}).get(culprit, f"--set {culprit}")
        raise OverrideError(reason if reason.startswith("--set ") else f"{call}: {reason}") from None


def _first_refused(assignments: Sequence[str], build: Callable[[Sequence[str]], object]) -> tuple[str, str] | None:
    for count, last in enumerate(assignments, 1):
        try:
            build(assignments[:count])
        except ConfigError as error:
            return last, re.sub(r"^recipe .+?: ", "", str(error))
    return None


@contextmanager
def about(key: str) -> Iterator[None]:
    """Refuse a name in a configuration as the value of `key`.

    Raises:
        ConfigError: in place of the error about the name.
    """
    try:
        yield
    except (UsageError, ConfigError) as error:
        raise ConfigError(f"{key}: {error}") from None


def assignments_of(settings: Mapping[str, Any] | None, section: str = "") -> list[str]:
    """Return nested or dotted settings as `--set` takes them: `section.key=value`, the value as TOML.

    Raises:
        UsageError: when a value has no form in TOML.
    """
    assignments = []
    for key, value in (settings or {}).items():
        if isinstance(value, Mapping):
            assignments += assignments_of(value, f"{section}{key}.")
        else:
            assignments.append(f"{section}{key}={_toml(f'{section}{key}', value)}")
    return assignments


def _toml(key: str, value: Any) -> str:
    """Write a value as TOML; dictionaries as inline tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))} = {_toml(key, part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(key, part) for part in value) + "]"
    try:
        if value is None:
            raise TypeError
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=os.fspath)
    except (TypeError, ValueError):
        raise UsageError(f"settings: wanted a string, a number, a list or a dictionary, got {key}={value!r}") from None


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
