"""All errors for the user: one line with what was wanted, what came and what to do."""

import importlib
from types import ModuleType


class WtalError(Exception):
    """An error that the user can correct. The command line prints it in one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(WtalError):
    """The call is ambiguous or malformed (exit 2)."""

    exit_code = 2


class ConfigError(WtalError):
    """A recipe, an override or an option has an unknown key or an invalid value."""


class OverrideError(UsageError, ConfigError):
    """An option or a `--set` of the call is refused, while the underlying configuration is valid (exit 2)."""


class FormatError(WtalError):
    """A file does not have the expected format."""


class VideoError(WtalError):
    """One video cannot be used; the batch continues and the reason is recorded in `failures.json`."""


class StoreError(WtalError):
    """A feature store is missing, damaged, or was made by another extractor."""


class WeightsError(WtalError):
    """A checkpoint is missing, truncated or unsafe, or its keys do not match the model."""


class AbsentError(UsageError, ConfigError, FormatError, StoreError, WeightsError):
    """A path or name in the call does not exist (exit 2)."""


class WrongKindError(UsageError, FormatError, WeightsError):
    """A path in the call is of the wrong kind: a video in place of detections, for example (exit 2)."""


class TakenError(UsageError, StoreError):
    """A folder in the call already contains something else (exit 2)."""


class DiskFullError(WtalError):
    """There is no space for a file; once there is, the same call resumes."""


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
"""Phrases of libraries' out-of-memory errors."""


def lacks_memory(error: BaseException) -> bool:
    """Return True if an error, even of a library, means that there is not enough memory."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(phrase in str(error) for phrase in _FULL_MEMORY)


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which is part of the optional extra `extra`.

    Raises:
        MissingExtraError: when the module is not installed, naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed; run: pip install 'wtal[{extra}]'") from None
