"""The index of a feature store on disk: which videos are there, on which rows of which shard.

```
STORE/
  index.json       format version, identity of the extractor, streams, rows of each shard, one line per video
  rgb-00000.npy    (rows, D) of many videos, stacked; one file per stream and shard
  failures.json    video -> reason
```
`index.json` is renamed into place last: what it does not name does not exist. It holds no clock and its keys are
sorted, so that equal contents are equal bytes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wtal.data.files import write_atomic
from wtal.data.json_keys import load_json
from wtal.errors import StoreError

INDEX = "index.json"
FAILURES = "failures.json"
FORMAT = "wtal feature store"
VERSION = 1


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Form that all videos of a store share in one stream: `dim` values per snippet, of numpy type `dtype`."""

    dim: int
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one snippet."""
        return self.dim * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON types."""
        return {"dim": self.dim, "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one video lies (`rows` rows from `offset` on in shard `shard`), its grid as JSON, and what was said of it.

    `fingerprint` tells the source file from others of the same name; it is empty where nobody gave one.
    """

    grid: dict[str, Any]
    shard: int
    offset: int
    rows: int
    info: dict[str, Any]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Index:
    """All that `index.json` says; `shards` holds the number of rows of each shard, in order."""

    identity: dict[str, Any]
    streams: dict[str, StreamSpec] = field(default_factory=dict)
    shards: tuple[int, ...] = ()
    videos: dict[str, Entry] = field(default_factory=dict)

    def files(self) -> dict[str, tuple[int, StreamSpec]]:
        """Name of every shard file -> its rows and its stream."""
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
    """File name of one shard of one stream."""
    return f"{stream}-{number:05d}.npy"


def is_shard_name(name: str) -> bool:
    """True for what `shard_name` makes."""
    return re.fullmatch(r"[a-z0-9_]+-\d{5,}\.npy", name) is not None


def to_text(value: Any) -> str:
    """One line of ASCII JSON with sorted keys: equal values, equal bytes, whatever a file name holds.

    Raises:
        StoreError: when the value has no JSON form, NaN and infinity included.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a feature store keeps JSON values, got {value!r} ({error})") from None


def read_index(folder: Path) -> Index:
    """The published index of the store in `folder`.

    Raises:
        StoreError: when there is no store, when the index is damaged, or when a newer version wrote it.
    """
    values = _read_json(folder / INDEX)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise StoreError(f"{folder} is not a feature store: its {INDEX} is of another kind; make one with wtal extract")
    if values.get("version") != VERSION:
        raise StoreError(
            f"{folder} is a feature store of format {values.get('version')!r}, this wtal reads format {VERSION}; "
            "upgrade wtal or extract again"
        )
    try:
        index = Index(
            identity=dict(values["identity"]),
            streams={name: StreamSpec(**spec) for name, spec in values["streams"].items()},
            shards=tuple(values["shards"]),
            videos={video: Entry(**entry) for video, entry in values["videos"].items()},
        )
        outside = [
            v for v, e in index.videos.items() if not 0 <= e.offset <= e.offset + e.rows <= index.shards[e.shard]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreError(f"{folder / INDEX} is damaged ({error}); restore it or extract again") from None
    if outside:
        raise StoreError(f"{folder / INDEX} is damaged (rows of {outside[0]!r} leave their shard); extract again")
    return index


def read_failures(folder: Path) -> dict[str, str]:
    """Video -> reason, of the store in `folder`; empty before the first failure.

    Raises:
        StoreError: when the file is damaged.
    """
    if not (folder / FAILURES).exists():
        return {}
    failures = _read_json(folder / FAILURES)
    if not isinstance(failures, dict):
        raise StoreError(f"{folder / FAILURES} is damaged (not a JSON object); delete it and extract again")
    return {str(video): str(reason) for video, reason in failures.items()}


def write_failures(folder: Path, failures: Mapping[str, str]) -> None:
    """Publish `failures` in `folder`, one line per video, sorted: whole or not at all."""
    lines = ",\n".join(f"{to_text(video)}: {to_text(failures[video])}" for video in sorted(failures))
    write_atomic(folder / FAILURES, f"{{\n{lines}\n}}\n".encode())


def write_header(file: BinaryIO, rows: int, spec: StreamSpec) -> None:
    """Open a plain `.npy` file of (rows, dim) values; the values are to follow, row after row."""
    header = {"descr": np.dtype(spec.dtype).str, "fortran_order": False, "shape": (rows, spec.dim)}
    np.lib.format.write_array_header_1_0(file, header)


def check_shard(path: Path, rows: int, spec: StreamSpec) -> None:
    """Refuse a shard file that is not exactly (rows, dim) values.

    Raises:
        StoreError: when it is missing, truncated, or of another shape or type than the index says.
    """
    wanted = f"({rows}, {spec.dim}) {spec.dtype}"
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            size = file.tell() + rows * spec.row_bytes
    except FileNotFoundError:
        raise StoreError(f"shard {path} is missing; restore it or extract again") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"shard {path} is damaged ({error}); restore it or extract again") from None
    if shape != (rows, spec.dim) or fortran or dtype != np.dtype(spec.dtype):
        raise StoreError(f"shard {path} holds {shape} {dtype}, its index says {wanted}; restore it or extract again")
    if (present := path.stat().st_size) != size:
        raise StoreError(f"shard {path} has {present} bytes, {wanted} takes {size}; restore it or extract again")


def _read_json(path: Path) -> Any:
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no feature store at {path.parent} (no {path.name}); make one with wtal extract") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); restore it or extract again") from None
