"""Index of a feature store on disk: its videos, and their rows and shards.

```
STORE/
  index.json       format version, identity of the extractor, streams, rows of each shard, one line per video with its
                   checksums
  rgb-00000.npy    (rows, D) of many videos, stacked; one file per stream and shard
  failures.json    video -> reason
```
`index.json` is renamed into place last: anything that it does not name does not exist. It has no timestamps and its
keys are sorted, so that equal contents are equal bytes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from wtal.config import Record, shallow
from wtal.data.files import write_atomic
from wtal.data.grid import SnippetGrid
from wtal.data.parsing.json_keys import checked, read_values
from wtal.data.parsing.object_arrays import array_head
from wtal.data.regular import require_regular
from wtal.data.store.checksums import entry_crc32, rows_crc32
from wtal.errors import AbsentError, FormatError, StoreError

INDEX = "index.json"
FAILURES = "failures.json"
LOCK = ".lock"
FORMAT = "wtal feature store"
VERSION = 1


_WAY_OUT = "restore it or extract again"
_WITHOUT = "delete it and extract again"
Count = Annotated[int, Field(ge=0, lt=2**53)]
Crc32 = Annotated[int, Field(ge=0, lt=2**32)]


def _weights(weights: dict[str, Any]) -> dict[str, Any]:
    """Accept a description of weights with one object per stream."""
    if not all(isinstance(each, dict) and isinstance(each.get("weights") or {}, dict) for each in weights.values()):
        raise ValueError("weights are one object per stream")
    return shallow(weights)


def _described(identity: dict[str, Any]) -> dict[str, Any]:
    """Accept an identity whose description of weights, if any, has one object per stream."""
    weights = identity.get("weights", {})
    if not isinstance(identity.get("backbone", ""), str) or not isinstance(weights, dict):
        raise ValueError("a backbone is a string, weights are one object per stream")
    _weights(weights)
    return shallow(identity)


def _noted(info: dict[str, Any]) -> dict[str, Any]:
    """Accept the info of a video if its notes are strings and its shortfall is a number."""
    notes, shortfall = info.get("notes", []), info.get("shortfall", 0)
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("notes are a list of strings")
    if not isinstance(shortfall, int | float):
        raise ValueError("a shortfall is a number of seconds")
    return shallow(info)


def sound_grid(grid: dict[str, Any]) -> dict[str, Any]:
    """Accept the JSON form of a snippet grid.

    Raises:
        ValueError: when it is not one.
    """
    try:
        SnippetGrid.from_json(grid)
    except FormatError as error:
        raise ValueError(str(error)) from None
    return grid


Info = Annotated[dict[str, Any], AfterValidator(_noted)]
"""Origin of a video's features."""
StreamName = Annotated[
    str, Field(pattern=r"^[a-z0-9_]+$", description="a name of lower-case letters, digits and underscores")
]
Weights = Annotated[dict[str, Any], AfterValidator(_weights)]
"""Stream -> description of the weights that its features come from."""
Identity = Annotated[dict[str, Any], AfterValidator(_described)]
"""Everything that can change the numbers of a store, as stated by its extractor."""


class StreamSpec(Record):
    """Form of one stream in all videos of a store: `dim` values per snippet, of numpy type `dtype`."""

    dim: Annotated[int, Field(ge=1, lt=2**31)]
    dtype: Literal["float16", "float32"]

    @property
    def row_bytes(self) -> int:
        """Bytes of one snippet."""
        return self.dim * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """Convert the spec to JSON types."""
        return {"dim": self.dim, "dtype": self.dtype}


class Account(Record):
    """Everything known of a stored video but its rows: its grid as JSON, its info, and its checksums.

    `fingerprint` distinguishes the source file from others of the same name; it is empty if none was given. A store
    written by an earlier version has no checksums.
    """

    grid: dict[str, Any]
    info: Info
    fingerprint: str
    rows_crc32: dict[StreamName, Crc32] = Field(default_factory=dict)
    entry_crc32: Crc32 | None = None

    def is_sound(self, video: str) -> bool:
        """Return True if the account of a video agrees with its checksum, or has none."""
        if self.entry_crc32 is None:
            return True
        return self.entry_crc32 == entry_crc32(video, self.grid, self.info, self.fingerprint, self.rows_crc32)

    def agrees(self, stream: str, values: NDArray[Any]) -> bool:
        """Return True if (T, D) rows of a stream agree with their checksum, or the account has none."""
        return self.entry_crc32 is None or self.rows_crc32.get(stream) == rows_crc32(values)


class Entry(Account):
    """Account and location of one video: `rows` rows from `offset` on in shard `shard`."""

    shard: Count
    offset: Count
    rows: Count

    def to_json(self) -> dict[str, Any]:
        """Convert the entry to JSON types."""
        names = set(Entry.model_fields) if self.entry_crc32 is not None else Entry.model_fields.keys() - _CHECKSUMS
        return {name: getattr(self, name) for name in names}


_CHECKSUMS = {"rows_crc32", "entry_crc32"}


class Index(Record):
    """Content of `index.json`; `shards` holds the number of rows of each shard, in order."""

    identity: Identity
    streams: dict[StreamName, StreamSpec] = Field(default_factory=dict)
    shards: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    videos: dict[str, Entry] = Field(default_factory=dict)

    def files(self) -> dict[str, tuple[int, StreamSpec]]:
        """Map the name of every shard file to its rows and its stream."""
        return {
            shard_name(stream, number): (rows, spec)
            for number, rows in enumerate(self.shards)
            for stream, spec in self.streams.items()
        }

    def write(self, folder: Path) -> None:
        """Publish this index in `folder`: whole or not at all."""
        head = to_text(
            {
                "format": FORMAT,
                "version": VERSION,
                "identity": self.identity,
                "streams": {name: spec.to_json() for name, spec in self.streams.items()},
                "shards": list(self.shards),
            }
        )
        lines = ",\n".join(
            f"{to_text(video)}: {to_text(self.videos[video].to_json())}" for video in sorted(self.videos)
        )
        write_atomic(folder / INDEX, f'{head[:-1]}, "videos": {{\n{lines}\n}}}}\n'.encode())


def shard_name(stream: str, number: int) -> str:
    """Return the file name of one shard of one stream."""
    return f"{stream}-{number:05d}.npy"


def is_shard_name(name: str) -> bool:
    """Return True for a name made by `shard_name`."""
    return re.fullmatch(r"[a-z0-9_]+-\d{5,}\.npy", name) is not None


def to_text(value: Any) -> str:
    """Encode as one line of ASCII JSON with sorted keys: equal values, equal bytes, for any file name.

    Raises:
        StoreError: when the value has no JSON form, NaN and infinity included.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a feature store keeps JSON values, got {value!r} ({error})") from None


def read_index(folder: Path) -> Index:
    """Read the published index of the store in `folder`.

    Raises:
        StoreError: when there is no store, when the index is damaged, or when a newer version wrote it.
    """
    values = _read(folder / INDEX, _WAY_OUT)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise StoreError(f"{folder} is not a feature store: its {INDEX} is of another kind; make one with wtal extract")
    if values.get("version") != VERSION:
        raise StoreError(
            f"{folder} is a feature store of format {values.get('version')!r}, this version reads format {VERSION}; "
            "upgrade wtal or extract again"
        )
    content = {key: value for key, value in values.items() if key not in ("format", "version")}
    index = checked(folder / INDEX, content, Index, _WAY_OUT, StoreError)
    rows = dict(enumerate(index.shards))
    outside = [video for video, entry in index.videos.items() if entry.offset + entry.rows > rows.get(entry.shard, -1)]
    if outside:
        raise StoreError(f"{folder / INDEX} is damaged (rows of {outside[0]!r} exceed their shard); {_WAY_OUT}")
    return index


def read_failures(folder: Path) -> dict[str, str]:
    """Read the failures of the store in `folder`, video -> reason; empty before the first failure.

    Raises:
        StoreError: when the file is damaged.
    """
    if not (folder / FAILURES).exists():
        return {}
    failures = _read(folder / FAILURES, _WITHOUT)
    if not isinstance(failures, dict) or not all(isinstance(reason, str) for reason in failures.values()):
        raise StoreError(f"{folder / FAILURES} is damaged (wanted an object of video and reason); {_WITHOUT}")
    return failures


def write_failures(folder: Path, failures: Mapping[str, str]) -> None:
    """Publish `failures` in `folder`, one line per video, sorted: whole or not at all."""
    lines = ",\n".join(f"{to_text(video)}: {to_text(failures[video])}" for video in sorted(failures))
    write_atomic(folder / FAILURES, f"{{\n{lines}\n}}\n".encode())


def write_header(file: BinaryIO, rows: int, spec: StreamSpec) -> None:
    """Write the head of a plain `.npy` file of (rows, dim) values; the values must follow, row after row."""
    header = {"descr": np.dtype(spec.dtype).str, "fortran_order": False, "shape": (rows, spec.dim)}
    np.lib.format.write_array_header_1_0(file, header)


def check_shard(path: Path, rows: int, spec: StreamSpec) -> None:
    """Refuse a shard file that is not exactly (rows, dim) values.

    Raises:
        StoreError: when it is missing, truncated, or differs from the index in shape or type.
    """
    require_regular(path, StoreError)
    wanted = f"({rows}, {spec.dim}) {spec.dtype}"
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = array_head(file)
            size = file.tell() + rows * spec.row_bytes
    except FileNotFoundError:
        raise StoreError(f"shard {path} is missing; restore it or extract again") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"shard {path} is damaged ({error}); restore it or extract again") from None
    if shape != (rows, spec.dim) or fortran or dtype != np.dtype(spec.dtype):
        raise StoreError(f"shard {path} holds {shape} {dtype}, its index says {wanted}; restore it or extract again")
    if (present := path.stat().st_size) != size:
        raise StoreError(f"shard {path} has {present} bytes, {wanted} takes {size}; restore it or extract again")


def _read(path: Path, way_out: str) -> Any:
    try:
        return read_values(path, way_out, StoreError)
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError(f"no feature store at {path.parent} (no {path.name}); make one with wtal extract") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
