"""Types of JSON values that other programs wrote, or a line that names the place of what is of another one."""

from typing import Any

from wtal.errors import FormatError


def entries(value: object, where: str) -> list[Any]:
    """Return a list.

    Raises:
        FormatError: naming `where`, when the value is none.
    """
    if not isinstance(value, list):
        raise FormatError(f"{where}: wanted a list, got {type(value).__name__}")
    return value


def members(value: object, where: str) -> dict[str, Any]:
    """Return an object.

    Raises:
        FormatError: naming `where`, when the value is none.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{where}: wanted an object, got {type(value).__name__}")
    return value
