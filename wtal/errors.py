"""Every error that a user may meet: one line that says what was wanted, what came and what to do."""

import importlib
from types import ModuleType


class WtalError(Exception):
    """Something that the user can mend. The command line prints it in one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(WtalError):
    """The call is ambiguous or malformed (exit 2)."""

    exit_code = 2


class ConfigError(WtalError):
    """A recipe, an override or an option has an unknown key or a value that does not fit."""


class OverrideError(UsageError, ConfigError):
    """An option or a `--set` of the call is refused, and what it is laid over is not (exit 2)."""


class FormatError(WtalError):
    """A file is not in the layout that it was said to be in."""


class VideoError(WtalError):
    """One video cannot be used; the batch goes on and the reason lands in `failures.json`."""


class StoreError(WtalError):
    """A feature store is missing, damaged, or was made by another extractor."""


class WeightsError(WtalError):
    """A checkpoint is missing, truncated, unsafe, or its keys do not fit the model."""


class AbsentError(UsageError, ConfigError, FormatError, StoreError, WeightsError):
    """There is nothing at a path, or of a name, that the call gives (exit 2)."""


class TakenError(UsageError, StoreError):
    """A folder that the call gives holds something else already (exit 2)."""


class DiskFullError(WtalError):
    """There is no room for a file; the same call goes on once there is."""


class MissingExtraError(WtalError):
    """An optional part of the package is not installed."""


_FULL_MEMORY = (
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "unable to mmap",
    "start new thread",
    "failed to map segment",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
)
"""Words of libraries that had no memory."""


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error, of a library too, says that there is not enough memory."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _FULL_MEMORY)


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the optional extra `extra` installs.

    Raises:
        MissingExtraError: naming the extra, when the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed; run: pip install 'wtal[{extra}]'") from None
