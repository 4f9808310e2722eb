"""Read `.npy` files of Python objects without executing code.

Object arrays are pickles, and a pickle can run any code. These are read with an unpickler limited to lists, numbers,
strings and stand-ins for arrays: numpy's own classes crash on damaged pickles, while the stand-ins check their content
against shape and type before they become arrays.
"""

import math
import os
import pickle
import re
import tokenize
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wtal.data.regular import require_regular
from wtal.errors import FormatError

_BROKEN = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
    pickle.UnpicklingError,
)
"""Exceptions that numpy and pickle raise for damaged files."""


def array_head(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, column-major flag and element type of the next `.npy` array in an open file.

    Raises:
        ValueError: when there is no valid head, whatever numpy raises.
    """
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except _BROKEN as error:
        raise ValueError(f"no header of an array: {error}") from None
    return tuple(shape), fortran, dtype


def read_array(path: Path) -> NDArray[Any]:
    """Read an array of numbers, strings or objects.

    Raises:
        FormatError: when the file cannot be read, or loading it would run code.
    """
    require_regular(path)
    try:
        with path.open("rb") as file:
            return _parse(file)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None
    except _Refused as error:
        raise FormatError(
            f"{path} is not read: {error}, and loading that could run code; "
            "if you trust it, load it yourself and save each array as a plain .npy file"
        ) from None
    except _BROKEN as error:
        raise FormatError(f"{path} is not a readable .npy file: {error}") from None


def read_shape(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and element type of a `.npy` file, from its head only.

    Raises:
        FormatError: when it has no such head.
    """
    require_regular(path)
    try:
        with path.open("rb") as file:
            shape, _, dtype = array_head(file)
            return shape, dtype
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None
    except _BROKEN as error:
        raise FormatError(f"{path} is not a readable .npy file: {error}") from None


def _parse(file: BinaryIO) -> NDArray[Any]:
    shape, _, dtype = array_head(file)
    if dtype.hasobject:
        array = _plain(_Unpickler(file, encoding="bytes").load())
        if not isinstance(array, np.ndarray):
            raise ValueError(f"it holds a {type(array).__name__}, not an array")
        return array
    expected, start = math.prod(shape) * dtype.itemsize, file.tell()
    available = file.seek(0, os.SEEK_END) - start
    if available < expected:
        raise ValueError(f"it is cut off: {available} bytes of {shape} {dtype}, which take {expected}")
    file.seek(0)
    array = np.load(file, allow_pickle=False)
    return np.asarray(array)


class _Refused(pickle.UnpicklingError):
    """Error of a pickle that requests anything not on the list."""


class _DtypeStandIn:
    """Stand-in for `numpy.dtype`: a plain number, a string, or an object."""

    def __init__(self, code: Any, *_: Any) -> None:
        name = code.decode("ascii") if isinstance(code, bytes) else str(code)
        if not re.fullmatch(r"[biufcSUO][0-9]{0,9}|[?]", name):
            raise pickle.UnpicklingError(f"it has elements of type {name!r}")
        self.value = np.dtype("O" if name[0] == "O" else name)

    def __setstate__(self, state: Any) -> None:
        if state[1] in (">", b">"):
            self.value = self.value.newbyteorder(">")


class _ArrayStandIn:
    """Stand-in for `numpy.ndarray`, which numpy creates empty and fills afterwards."""

    value: NDArray[Any]

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        shape, count = tuple(map(int, shape)), math.prod(shape)
        if dtype.value.hasobject:
            if not isinstance(content, list) or len(content) != count:
                raise pickle.UnpicklingError(f"an array of {count} objects contains the wrong number of them")
            flat = np.empty(count, dtype=object)
            for i, element in enumerate(content):
                flat[i] = _plain(element)
        else:
            if not isinstance(content, bytes) or len(content) != count * dtype.value.itemsize:
                raise pickle.UnpicklingError(f"an array {shape} of {dtype.value} has the wrong number of bytes")
            flat = np.frombuffer(bytearray(content), dtype.value)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    """Replace stand-ins by their arrays."""
    if isinstance(value, _ArrayStandIn):
        return value.value
    if isinstance(value, list | tuple):
        return type(value)(_plain(element) for element in value)
    return value


def _scalar(dtype: _DtypeStandIn, content: bytes) -> Any:
    """Read numpy's pickle of a single number or string."""
    if dtype.value.hasobject or len(content) != dtype.value.itemsize:
        raise pickle.UnpicklingError(f"a {dtype.value} has the wrong number of bytes")
    return np.frombuffer(content, dtype.value)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Read Python 3's form of bytes in old pickles: a string and its encoding, which must be latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): "ndarray",  # the type to create; never called
    ("numpy", "dtype"): _DtypeStandIn,
    ("numpy.core.multiarray", "_reconstruct"): _ArrayStandIn,
    ("numpy._core.multiarray", "_reconstruct"): _ArrayStandIn,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Unpickler(pickle.Unpickler):
    """Unpickler of stand-ins for arrays, element types and numpy numbers; all other names are refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None
