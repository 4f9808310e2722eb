"""Refuse pipes and devices before they are opened: their readers might wait forever."""

import stat
from pathlib import Path

from wtal.errors import WrongKindError, WtalError

NOT_REGULAR = "not a regular file: copy it to one first"
"""Reason why a pipe or a device is no video."""


def is_pipe(path: Path) -> bool:
    """Return True for a pipe or a device, or a link to one: anything there but a file or a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # missing, inaccessible, or not a name
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_regular(path: Path, error: type[WtalError] = WrongKindError) -> None:
    """Refuse a pipe or a device; missing files and folders are left to the reader.

    Raises:
        WtalError: an `error`, in one line.
    """
    if is_pipe(path):
        raise error(f"cannot read {path}: it is a pipe or a device, not a regular file; save it to a file first")
