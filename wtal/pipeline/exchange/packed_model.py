"""A trained model in one file: a zip archive of a description and plain arrays, without code and without pickles.

```
model.json     format, version, the version of wtal, the model, and the sha256 of every other entry
0000.npy       arrays of parameters of the head or the student, and of its scaler, named in model.json
```
Entries are stored uncompressed, in fixed order and without timestamps, so that equal models have equal bytes. Nothing
is unpacked to disk, and every byte of an entry is checked when the file is opened.
"""

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtal.config import Config
from wtal.data.files import write_atomic
from wtal.data.parsing.json_keys import load_finite, require_whole
from wtal.data.parsing.object_arrays import array_head
from wtal.errors import ConfigError, FormatError, UsageError
from wtal.pipeline.new_videos.model import Arrays, Model, ModelRecord
from wtal.pipeline.recipe import Recipe
from wtal.version import installed_version

FORMAT = "wtal model"
VERSION = 1
SUFFIX = ".wtal"

_DESCRIPTION = "model.json"
_LONGEST_DESCRIPTION = 1 << 26
"""Maximum size of model.json in bytes."""
_CLOCK = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_KINDS = "biuf"
"""Kinds of numpy types allowed in arrays: booleans, integers, floats."""

_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""Errors that reading a damaged archive may raise."""


class _PackedNode(Config):
    """Node of model.json: a model whose arrays are names of entries."""

    by_hand: ClassVar[bool] = False

    record: ModelRecord
    parameters: dict[str, str] = Field(default_factory=dict)
    shift: dict[str, str] = Field(default_factory=dict)
    gain: dict[str, str] = Field(default_factory=dict)
    members: tuple["_PackedNode", ...] = ()
    teacher: "_PackedNode | None" = None


class _PackedDescription(Config):
    """Content of model.json."""

    by_hand: ClassVar[bool] = False

    format: str
    version: int
    wtal: str
    model: _PackedNode
    entries: dict[str, str]


def pack_model(model: Model, path: Path) -> Path:
    """Write a model into one file, whole or not at all; names of local folders are not included.

    Raises:
        UsageError: when the name does not end in .wtal.
        WtalError: when a parameter is of a type that numpy lacks.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"{path}: the name of a packed model must end in {SUFFIX}")
    entries: dict[str, bytes] = {}
    node = _node(model, entries)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}
    description = {"format": FORMAT, "version": VERSION, "wtal": installed_version(), "model": node, "entries": digests}
    text = json.dumps(description, indent=1, allow_nan=False).encode() + b"\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for name, content in {_DESCRIPTION: text, **entries}.items():
            info = zipfile.ZipInfo(name, _CLOCK)
            info.create_system, info.external_attr = _UNIX, 0o644 << 16
            packed.writestr(info, content)
    return write_atomic(path, archive.getvalue())


def _node(model: Model, entries: dict[str, bytes]) -> dict[str, Any]:
    def written(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        return {key: _add(arrays[key], entries) for key in sorted(arrays)}

    record = model.record.model_copy(update={"sources": model.sources.for_others().to_json()})
    return {
        "record": record.plain(),
        "parameters": written(model.parameters),
        "shift": written(model.shift),
        "gain": written(model.gain),
        "members": [_node(member, entries) for member in model.members],
        **({} if model.teacher is None else {"teacher": _node(model.teacher, entries)}),
    }


def _add(array: NDArray[Any], entries: dict[str, bytes]) -> str:
    """Add an array to the entries and return its name."""
    name = f"{len(entries):04d}.npy"
    file = io.BytesIO()
    # not ascontiguousarray, which adds a dimension to a scalar
    np.lib.format.write_array(file, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    entries[name] = file.getvalue()
    return name


def is_packed(path: Path) -> bool:
    """Return whether a file has the name of a packed model."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read_model(path: Path) -> Model:
    """Read a packed model after checking all of its bytes.

    Raises:
        FormatError: when the file is not a packed model, is damaged, or was written by a newer version; in one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = _infos(archive, path)
            description = _description(archive, infos, path)
            contents = {name: archive.read(infos[name]) for name in description.entries}
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    for name, digest in description.entries.items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise _damaged(path, f"{name} has changed since it was packed")
    return _model(description.model, {name: _array(content, name, path) for name, content in contents.items()}, path)


def _infos(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name: each once, uncompressed, and together no longer than the file."""
    listed = archive.infolist()
    infos = {info.filename: info for info in listed}
    if _DESCRIPTION not in infos:
        raise FormatError(
            f"{path} is not a packed model: it is a zip archive without {_DESCRIPTION}; make one with wtal pack"
        )
    if len(infos) < len(listed):
        raise _damaged(path, "an entry appears twice")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in listed):
        raise _damaged(path, "an entry is compressed")
    if sum(info.file_size for info in listed) > path.stat().st_size:
        raise _damaged(path, "its entries exceed the size of the file")
    return infos


def _description(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], path: Path) -> _PackedDescription:
    if infos[_DESCRIPTION].file_size > _LONGEST_DESCRIPTION:
        raise _damaged(path, f"{_DESCRIPTION} has {infos[_DESCRIPTION].file_size} bytes")
    try:
        content = load_finite(archive.read(infos[_DESCRIPTION]).decode())
        require_whole(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{_DESCRIPTION}: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FormatError(
            f"{path} is not a packed model: its {_DESCRIPTION} is of another kind; make one with wtal pack"
        )
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise FormatError(
            f"{path} is a packed model of format {version}, by wtal {content.get('wtal')}; this wtal "
            f"({installed_version()}) reads format {VERSION}: upgrade wtal"
        )
    if version != VERSION:
        raise _damaged(path, f"its format is {version!r}, wanted {VERSION}")
    try:
        description = _PackedDescription.parse(content, str(path))
    except ConfigError as error:
        raise FormatError(f"{error}; pack the run again, or upgrade wtal") from None
    except RecursionError:
        raise _damaged(path, f"{_DESCRIPTION} is nested too deeply") from None
    if unlike := description.entries.keys() ^ (infos.keys() - {_DESCRIPTION}):
        raise _damaged(path, f"{min(unlike)} is listed but missing, or present but unlisted")
    return description


def _model(node: _PackedNode, arrays: Mapping[str, NDArray[Any]], path: Path) -> Model:
    def chosen(names: Mapping[str, str]) -> Arrays:
        return {key: arrays[name] for key, name in names.items()}

    record, count = node.record, len(node.members)
    scaled = count if record.by == "detections" else 0
    if (
        (record.by is None) != (not count)
        or (count and node.teacher)
        or len(record.weights) != count
        or len(record.scales) != scaled
    ):
        raise _damaged(path, "an ensemble and its members do not match")
    if any(sorted(member.record.classes) != sorted(record.classes) for member in node.members):
        raise _damaged(path, "the members of an ensemble have different classes")
    if node.teacher is not None and node.teacher.record.classes != record.classes:
        raise _damaged(path, "a student and its teacher have different classes")
    try:
        recipe = Recipe.parse(record.recipe, str(path), by_hand=False)
        own = (chosen(node.parameters), chosen(node.shift), chosen(node.gain))
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from None
    except ConfigError as error:
        raise FormatError(f"{error}; pack the run again, or upgrade wtal") from None
    teacher = None if node.teacher is None else _model(node.teacher, arrays, path)
    return Model(record, recipe, *own, tuple(_model(member, arrays, path) for member in node.members), teacher)


def _array(content: bytes, name: str, path: Path) -> NDArray[Any]:
    """Read a plain array without trusting its stated size."""
    file = io.BytesIO(content)
    try:
        shape, fortran, dtype = array_head(file)
        if fortran or dtype.kind not in _KINDS:
            raise ValueError(f"it is {dtype}")
        data = content[file.tell() :]
        values = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
        return values.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise _damaged(path, f"{name}: {error}") from None


def _damaged(path: Path, why: object) -> FormatError:
    return FormatError(f"{path} is not a packed model, or is damaged: {why}; copy or pack it again")
