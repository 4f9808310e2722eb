"""Strict, frozen, typed configuration (class default < recipe < `--set key=value`) and its digest."""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from wtal.errors import ConfigError, OverrideError
from wtal.registry import suggest

_LARGEST = 2**31 - 1
"""Largest whole number of a configuration."""
_LARGEST_FLOAT = 1e30
"""Largest other number: close to the limit of float32, in which most are used."""
_LONGEST = 80
"""Maximum number of characters of a value in an error message."""


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys refused, numbers finite, comparable by content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, values: object, where: str = "") -> Self:
        """Validate `values`; error messages begin with `where` (a file, a section).

        Raises:
            ConfigError: for the first key that is unknown or has an invalid value, in one line, with a suggestion.
        """
        try:
            config = cls.model_validate(values)
            config._refuse_huge()
            return config
        except ValidationError as error:
            raise ConfigError(_one_line(cls, error, where)) from None
        except ConfigError as error:  # from a validator, which has no access to `where`
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None

    def _refuse_huge(self) -> None:
        """Refuse absurdly large numbers before anything is allocated by them."""
        for name, value in self.__dict__.items():
            if isinstance(value, Config):
                value._refuse_huge()
            elif isinstance(value, int | float):
                largest = _LARGEST if isinstance(value, int) else _LARGEST_FLOAT
                if abs(value) > largest:
                    raise ConfigError(f"{name} is {shortened(value)}, the largest possible number is {largest}")

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON types, in declaration order."""
        return self.model_dump(mode="json")


class Record(Config):
    """Base of the content of files written by wtal: a configuration, but without conversion of types."""

    model_config = ConfigDict(strict=True, coerce_numbers_to_str=False)

    def _refuse_huge(self) -> None:
        """Accept all numbers: fields bound their own."""


def conforming(kind: type[Record]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Validator of pydantic that passes a JSON object on as it is if it parses as a `kind`."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    return check


def digest(value: Any, length: int = 6) -> str:
    """Compute the hex digest of a JSON value: equal values have equal digests, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigError: when the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no recipe at {path}") from None
    except (ValueError, RecursionError) as error:  # also for numbers with thousands of digits, and for nesting
        raise ConfigError(f"{path} is not TOML: {error}") from None


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


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _one_line(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    prefix = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        return f"{prefix}unknown key {path!r}; {suggest(str(first['loc'][-1]), _fields_at(cls, first['loc'][:-1]))}"
    return f"{prefix}{path or cls.__name__}: {first['msg']}, got {shortened(first['input'])}"


def shortened(value: object) -> str:
    """Format a value as in Python, in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _fields_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation if str(part) in cls.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        cls = annotation
    return list(cls.model_fields)
