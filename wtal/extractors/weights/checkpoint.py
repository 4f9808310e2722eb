"""Checkpoint files: their tensors, read without running any code in them."""

import json
import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wtal.data.kinds import ARRAY, MODEL, OF_TEXT, PICTURE, TEXT, VIDEO, kind_of
from wtal.data.regular import require_regular
from wtal.errors import AbsentError, WeightsError, WrongKindError

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state", "model_state_dict")
_PREFIXES = ("module.", "backbone.")
_PICKLES = 4
"""Pickles at the start of PyTorch's old files: two numbers, the system, the tensors without their values."""
_MAGIC = torch.serialization.MAGIC_NUMBER
"""The first of these."""
_PART = ".part"
_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OSError,
    ArithmeticError,
    AssertionError,
    ImportError,
    MemoryError,
    SyntaxError,
    struct.error,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)
"""Errors that readers of all formats raised on truncated or modified files."""

_OTHERS = {ARRAY, MODEL, PICTURE, VIDEO, *OF_TEXT} - {TEXT}
"""Kinds of files that are never checkpoints, not even damaged ones."""


def read_checkpoint(path: Path) -> State:
    """Read the tensors of a checkpoint (PyTorch's formats, .safetensors or .npz), on the CPU; no code in it is run.

    A transfer's `NAME.part` is read in the format of NAME. See `tensors_of` for wrappers and prefixes.

    Raises:
        WeightsError: when the file is missing, empty, damaged, unsafe, or contains no mapping of tensors.
    """
    _refuse_non_checkpoint(path)
    damaged = WeightsError(f"{path} is truncated, damaged, or not a checkpoint; fetch it again")
    kind = Path(path.name.removesuffix(_PART)).suffix
    try:
        if kind == ".safetensors":
            content: object = _read_safetensors(path)
        elif kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                content = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                _require_checksums(path)
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error) and not _is_cut_short(path):
            what = f"{path} uses a later pickle protocol, which cannot be read without running its code"
            raise WeightsError(f"{what}; {_way_to_convert(path)}") from None
        if (code := re.search(r"GLOBAL (\S+)", str(error))) is None or _is_cut_short(path):
            raise _pickle_or(damaged, path) from None
        raise WeightsError(
            f"{path} holds {code[1]} besides tensors, and reading that would run its code; {_way_to_convert(path)}"
        ) from None
    except _DAMAGE:
        raise _pickle_or(damaged, path) from None
    return tensors_of(content, str(path))


def tensors_of(content: object, what: str) -> State:
    """Return the tensors in a checkpoint, by name. `what` describes it in error messages.

    Wrappers such as {"state_dict": ..} are opened, and other content (the epoch, the optimizer's state) is ignored;
    `module.` and `backbone.` are removed from the keys.

    Raises:
        WeightsError: when it contains no mapping of plain tensors, two colliding keys, or two sets of weights, such as
            those of the last step and their running average.
    """
    if not isinstance(content, Mapping):
        raise WeightsError(f"{what} holds a {type(content).__name__}, wanted a mapping from names to tensors")
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            _refuse_rivals(content, wrapper, what)
            return tensors_of(content[wrapper], what)
    state: State = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{what} holds a {type(value).__name__} under {key!r}, wanted tensors under names")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise WeightsError(f"{what} holds a sparse, quantized or empty tensor under {key!r}, wanted plain ones")
        short = _without_prefix(key)
        if short in state:
            raise WeightsError(f"{what} holds {short!r} twice, with and without a prefix")
        state[short] = value
    if not state:
        raise WeightsError(f"{what} holds no tensors")
    return state


def is_file(path: Path) -> bool:
    """Return whether a file exists; False for invalid names."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _require_checksums(path: Path) -> None:
    """Compare the entries of a PyTorch archive with their checksums, which torch does not.

    torch can be set to write none (`set_crc32_options`): then the checksums of all entries are wrong.

    Raises:
        zipfile.BadZipFile: when some differ.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None and any(_is_whole(archive, entry) for entry in archive.infolist()):
            raise zipfile.BadZipFile("an entry differs from its checksum")


def _is_whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        return bool(archive.read(entry))
    except zipfile.BadZipFile:
        return False


def _refuse_rivals(content: Mapping[Any, Any], wrapper: str, what: str) -> None:
    """Raise if another entry than `wrapper` has weights under the same names: the choice is the user's."""
    keys = _names(content[wrapper])
    rivals = [str(name) for name, entry in content.items() if name != wrapper and keys & _names(entry)]
    if rivals:
        raise WeightsError(
            f"{what} holds weights under {wrapper} and under {', '.join(rivals)}; keep the right ones: "
            f"torch.save(torch.load(..)[{wrapper!r}], ..), or another of these names"
        )


def _names(entry: object) -> set[str]:
    """Return the names of the tensors in a mapping of only tensors, without prefixes; empty for anything else."""
    if not isinstance(entry, Mapping) or not all(isinstance(value, Tensor) for value in entry.values()):
        return set()
    return {_without_prefix(str(key)) for key in entry}


def _is_cut_short(path: Path) -> bool:
    """Return whether a file of pickles ends within one of them, where names may be incomplete."""
    if zipfile.is_zipfile(path):
        return False
    with path.open("rb") as file:
        try:
            for _ in range(_PICKLES):
                if file.peek(1):
                    deque(pickletools.genops(file), maxlen=0)
        except _DAMAGE:
            return True
    return False


def _pickle_or(damaged: WeightsError, path: Path) -> WeightsError:
    if not _is_plain_pickle(path):
        return damaged
    return WeightsError(f"{path} is a pickle, and reading it may run its code; {_way_to_convert(path)}")


def _way_to_convert(path: Path) -> str:
    if _is_plain_pickle(path):
        return (
            "if you trust the file, keep only its tensors with pickle.load(..) and "
            "torch.save({key: torch.as_tensor(value) for key, value in found.items()}, ..)"
        )
    return (
        "if you trust the file, keep only its tensors with torch.load(.., weights_only=False) and "
        "torch.save(state_dict, ..)"
    )


def _is_plain_pickle(path: Path) -> bool:
    """Return whether a file is a single pickle, like Caffe2's models; PyTorch's old files are several."""
    with path.open("rb") as file:
        if file.read(1) != pickle.PROTO:
            return False
        file.seek(0)
        try:
            of_torch = any(value == _MAGIC for _, value, _ in pickletools.genops(file))
        except _DAMAGE:
            return False
        return not of_torch and not file.read(1)


def _read_safetensors(path: Path) -> State:
    """Read the tensors of a safetensors file: length of the header (8 bytes), header (JSON), values.

    Raises:
        WeightsError: when a tensor has an unsupported type.
        ValueError: when the header does not cover the file.
    """
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    if start + max((entry["data_offsets"][1] for entry in header.values()), default=0) != len(data):
        raise ValueError("the header does not cover the file")
    values = torch.frombuffer(data, dtype=torch.uint8)
    state = {}
    for key, entry in header.items():
        first, last = entry["data_offsets"]
        if (kind := _SAFETENSORS_TYPES.get(entry["dtype"])) is None:
            raise WeightsError(f"{path} holds {key!r} of type {entry['dtype']}, which is not supported")
        state[key] = values[start + first : start + last].clone().view(kind).reshape(entry["shape"])
    return state


def _without_prefix(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return key


def _refuse_non_checkpoint(path: Path) -> None:
    """Raise if a file is clearly not a checkpoint, with what it is."""
    try:
        if not path.exists():
            raise AbsentError(f"{path} does not exist; pass a checkpoint")
        require_regular(path)
        if not path.is_file():
            raise WrongKindError(f"{path}: wanted a checkpoint, got {kind_of(path)}")
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise WeightsError(f"{str(path)!r} cannot be the name of a file") from None
    if path.suffix != _PART and path.suffix.lower() != ".npz" and (kind := kind_of(path)) in _OTHERS:
        raise WrongKindError(f"{path}: wanted a checkpoint, got {kind}")
    if not start:
        raise WeightsError(f"{path} is empty, wanted a checkpoint; fetch it again")
    if start.lstrip().lower().startswith((b"<!", b"<html", b"<?xml")):
        raise WeightsError(f"{path} is a web page, wanted a checkpoint; fetch it from the address of the raw file")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, wanted a checkpoint; run: git lfs pull")
