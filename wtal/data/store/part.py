"""A part, one finished video to be added to a store: a file of one JSON line and one `.npy` array per stream."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from pydantic import AfterValidator

from wtal.data.files import write_atomic
from wtal.data.grid import SnippetGrid
from wtal.data.parsing.json_keys import checked, values_of
from wtal.data.parsing.object_arrays import array_head
from wtal.data.regular import require_regular
from wtal.data.store import Features
from wtal.data.store.checksums import entry_crc32, rows_crc32
from wtal.data.store.index import Account, StreamName, StreamSpec, sound_grid, to_text
from wtal.errors import StoreError

SUFFIX = ".part"


_WAY_OUT = "delete it and extract again"


class PartHeader(Account):
    """Content of a part's first line; the arrays follow in the order of `streams`."""

    video: str
    grid: Annotated[dict[str, Any], AfterValidator(sound_grid)]
    streams: dict[StreamName, StreamSpec]


@dataclass(frozen=True)
class Part:
    """A part on disk and its header."""

    path: Path
    header: PartHeader

    @property
    def video(self) -> str:
        """Id of the video."""
        return self.header.video

    @property
    def streams(self) -> dict[str, StreamSpec]:
        """Form of each stream, in the order of the arrays."""
        return self.header.streams

    @property
    def rows(self) -> int:
        """T, the number of snippets of the video."""
        return SnippetGrid.from_json(self.header.grid).num_snippets

    @classmethod
    def read(cls, path: Path) -> "Part":
        """Read the header of the part in `path`; its arrays stay on disk.

        Raises:
            StoreError: when the file is damaged.
        """
        require_regular(path, StoreError)
        with path.open("rb") as file:
            line = file.readline()
        values = values_of(path, line, _WAY_OUT, StoreError)
        part = cls(path, checked(path, values, PartHeader, _WAY_OUT, StoreError))
        if path.stem != key_of(part.video):
            raise StoreError(f"{path} is damaged (its name does not match its video); {_WAY_OUT}")
        if not part.header.is_sound(part.video):
            raise StoreError(f"{path} is damaged (its first line differs from its checksum); {_WAY_OUT}")
        return part

    def arrays(self) -> dict[str, Features]:
        """Read stream -> (T, D) from disk.

        Raises:
            StoreError: when the file is damaged.
        """
        try:
            with self.path.open("rb") as file:
                file.readline()
                arrays = {name: _array(file, (self.rows, spec.dim), spec.dtype) for name, spec in self.streams.items()}
                if file.read(1):
                    raise ValueError("it is longer than its streams")
            for name, values in arrays.items():
                if not self.header.agrees(name, values):
                    raise ValueError(f"its rows of {name} differ from their checksum")
            return arrays
        except ValueError as error:
            raise StoreError(f"{self.path} is damaged ({error}); {_WAY_OUT}") from None


def _array(file: BinaryIO, shape: tuple[int, int], dtype: str) -> Features:
    """Read the next array of an open file, which must be (T, D) of a type."""
    header = array_head(file)
    if header != (shape, False, np.dtype(dtype)):
        raise ValueError(f"an array is {header[0]} {header[2]}, wanted {shape} {dtype}")
    content = file.read(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def key_of(video: str) -> str:
    """Make a file name for any video id; different ids have different names."""
    return hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()


def check(video: str, grid: SnippetGrid, streams: Mapping[str, Features]) -> dict[str, StreamSpec]:
    """Check a video's streams; return their specs, in order of their names.

    Raises:
        StoreError: when a stream is not a (T, D) array of float16 or float32, T being the grid's, or when its name
            cannot be part of a file name.
    """
    if not streams:
        raise StoreError(f"video {video!r} has no stream; a store needs at least one")
    for name, values in streams.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise StoreError(f"a stream's name may contain only a-z, 0-9 and _, got {name!r}")
        if values.ndim != 2 or len(values) != grid.num_snippets or values.shape[1] == 0:
            raise StoreError(
                f"{name} of video {video!r} is {values.shape}, wanted ({grid.num_snippets}, D) by its grid"
            )
        if str(values.dtype) not in ("float16", "float32"):
            raise StoreError(f"{name} of video {video!r} is {values.dtype}; a store keeps float16 or float32")
    return {
        name: StreamSpec.parse({"dim": streams[name].shape[1], "dtype": str(streams[name].dtype)})
        for name in sorted(streams)
    }


def write(
    path: Path,
    video: str,
    grid: SnippetGrid,
    streams: Mapping[str, Features],
    info: Mapping[str, Any],
    fingerprint: str,
) -> None:
    """Publish one video as the part `path`, whole or not at all.

    Raises:
        StoreError: as in `check`, or when `info` has no JSON form.
        OSError: when the file cannot be written.
    """
    specs = check(video, grid, streams)
    arrays = {name: np.ascontiguousarray(streams[name]) for name in specs}
    rows = {name: rows_crc32(values) for name, values in arrays.items()}
    account = json.loads(to_text({"grid": grid.to_json(), "info": dict(info), "fingerprint": fingerprint}))
    header = {
        "video": video,
        "streams": {name: spec.to_json() for name, spec in specs.items()},
        **account,
        "rows_crc32": rows,
        "entry_crc32": entry_crc32(video, **account, rows=rows),
    }
    line = to_text(header).encode() + b"\n"

    def content(file: Any) -> None:
        file.write(line)
        for values in arrays.values():
            np.lib.format.write_array(file, values, allow_pickle=False)

    write_atomic(path, content)
