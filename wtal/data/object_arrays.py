"""`.npy` files whose elements are Python objects, read without running what is in them.

Object arrays are pickles, and a pickle can run any code. These are read with an unpickler that knows arrays, lists,
numbers and texts only.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wtal.errors import FormatError


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in old pickles: an encoding of text, of which only this one is known."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


_RECONSTRUCT = np.ndarray(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
}


def read_array(path: Path) -> NDArray[Any]:
    """An array of numbers, texts or objects.

    Raises:
        FormatError: when the file cannot be read, or holds what would need code to be run.
    """
    try:
        with path.open("rb") as file:
            return _parse(file)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None
    except _Refused as error:
        raise FormatError(f"{path} is not read: {error}, and loading that could run code") from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise FormatError(f"{path} is not a readable .npy file: {error}") from None


def _parse(file: BinaryIO) -> NDArray[Any]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read_header(file)
    if dtype.hasobject:
        array = _Unpickler(file, encoding="bytes").load()
        if not isinstance(array, np.ndarray):
            raise ValueError(f"it holds a {type(array).__name__}, not an array")
        return array
    file.seek(0)
    array = np.load(file, allow_pickle=False)
    return np.asarray(array)


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """Knows arrays, their element types and numpy numbers; all else that a pickle may name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None
