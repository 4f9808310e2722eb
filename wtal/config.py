"""Strict, frozen, typed configuration: dataclass default < recipe < `--set key=value`; and its digest."""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from wtal.errors import ConfigError, OverrideError
from wtal.registry import suggest

_LARGEST = 2**31 - 1
"""Largest whole number of a configuration."""
_LARGEST_FLOAT = 1e30
"""Largest other number: float32, which most are computed with, ends soon after."""
_LONGEST = 80
"""Characters of a value that a refusal shows."""


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys refused, numbers finite, comparable by content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, values: object, where: str = "") -> Self:
        """Validate `values`; `where` (a file, a section) opens the message of a refusal.

        Raises:
            ConfigError: one line for the first key that is unknown or does not fit, with a suggestion.
        """
        try:
            config = cls.model_validate(values)
            config._refuse_huge()
            return config
        except ValidationError as error:
            raise ConfigError(_one_line(cls, error, where)) from None
        except ConfigError as error:  # of a validator, which does not know where
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None

    def _refuse_huge(self) -> None:
        """Refuse numbers that no count reaches, before anything is made by them."""
        for name, value in self.__dict__.items():
            if isinstance(value, Config):
                value._refuse_huge()
            elif isinstance(value, int | float):
                largest = _LARGEST if isinstance(value, int) else _LARGEST_FLOAT
                if abs(value) > largest:
                    raise ConfigError(f"{name} is {shortened(value)}, and no number is larger than {largest}")

    def plain(self) -> dict[str, Any]:
        """The values as JSON types, in declaration order."""
        return self.model_dump(mode="json")


class Record(Config):
    """Base of what a file of ours holds: as a configuration, but a value of another type is damage, and is not read."""

    model_config = ConfigDict(strict=True, coerce_numbers_to_str=False)

    def _refuse_huge(self) -> None:
        """Accept all numbers: fields bound their own."""


def digest(value: Any, length: int = 6) -> str:
    """Hex digest of a JSON-able value: equal values, equal digest, whatever the order of their keys."""
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
    except (ValueError, RecursionError) as error:  # of numbers with thousands of digits, and of nesting, too
        raise ConfigError(f"{path} is not TOML: {error}") from None


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of nested `values` with dotted assignments applied: `head.top_k_ratio=6`.

    The right side is read as a TOML value, and as plain text where it is none.

    Raises:
        OverrideError: when an assignment has no `=` or its key runs through a value.
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


@contextmanager
def blamed(assignments: Sequence[str], without: Callable[[], object]) -> Iterator[None]:
    """Blame the call for a refused configuration, where `without` its assignments it is not refused.

    Raises:
        OverrideError: then; else what was raised.
    """
    try:
        yield
    except ConfigError as error:
        if not assignments:
            raise
        without()
        raise OverrideError(str(error)) from None


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
    """Write a value as Python does, in 80 characters at most."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _fields_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation if str(part) in cls.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        cls = annotation
    return list(cls.model_fields)
