"""Check the types of JSON values from other programs; errors name the place."""

from typing import Any

from wtal.errors import FormatError
from wtal.refusals import written


def entries(value: object, where: str) -> list[Any]:
    """Return a list.

    Raises:
        FormatError: when the value is not a list, naming `where`.
    """
    if not isinstance(value, list):
        raise FormatError(f"{where}: wanted a list, got {written(value, by_hand=False)}")
    return value


def members(value: object, where: str) -> dict[str, Any]:
    """Return an object.

    Raises:
        FormatError: when the value is not an object, naming `where`.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{where}: wanted an object, got {written(value, by_hand=False)}")
    return value
