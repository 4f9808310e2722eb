"""One finished video on its way into a store: a file of one JSON line and one `.npy` array per stream."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wtal.data.files import write_atomic
from wtal.data.grid import SnippetGrid
from wtal.data.json_keys import load_json
from wtal.data.store import Features
from wtal.data.store.index import StreamSpec, to_text
from wtal.errors import StoreError

SUFFIX = ".part"


@dataclass(frozen=True)
class Part:
    """Content of a part's first line; the arrays follow in the order of `streams`."""

    path: Path
    video: str
    grid: dict[str, Any]
    streams: dict[str, StreamSpec]
    info: dict[str, Any]
    fingerprint: str

    @property
    def rows(self) -> int:
        """T: snippets of the video."""
        return SnippetGrid.from_json(self.grid).num_snippets

    @classmethod
    def read(cls, path: Path) -> "Part":
        """The head of the part in `path`; its arrays stay on disk.

        Raises:
            StoreError: when the file is damaged.
        """
        try:
            with path.open("rb") as file:
                head = load_json(file.readline().decode())
            streams = {name: StreamSpec(**spec) for name, spec in head.pop("streams").items()}
            return cls(path=path, streams=streams, **head)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path} is damaged ({error}); delete it and extract again") from None

    def arrays(self) -> dict[str, Features]:
        """Stream -> (T, D), read from disk.

        Raises:
            StoreError: when the file is damaged.
        """
        try:
            with self.path.open("rb") as file:
                file.readline()
                return {name: np.load(file, allow_pickle=False) for name in self.streams}
        except (ValueError, EOFError) as error:
            raise StoreError(f"{self.path} is damaged ({error}); delete it and extract again") from None


def key_of(video: str) -> str:
    """A file name for a video id, whatever the id holds; different ids, different names."""
    return hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()


def check(video: str, grid: SnippetGrid, streams: Mapping[str, Features]) -> dict[str, StreamSpec]:
    """The specs of a video's streams, in order of their names.

    Raises:
        StoreError: when a stream is not a (T, D) array of float16 or float32, T being the grid's, or when its name
            cannot be part of a file name.
    """
    if not streams:
        raise StoreError(f"video {video!r} has no stream; a store keeps at least one")
    for name, values in streams.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise StoreError(f"a stream is named in a-z, 0-9 and _, got {name!r}")
        if values.ndim != 2 or len(values) != grid.num_snippets or values.shape[1] == 0:
            raise StoreError(f"{name} of video {video!r} is {values.shape}, its grid wants ({grid.num_snippets}, D)")
        if str(values.dtype) not in ("float16", "float32"):
            raise StoreError(f"{name} of video {video!r} is {values.dtype}; a store keeps float16 or float32")
    return {name: StreamSpec(streams[name].shape[1], str(streams[name].dtype)) for name in sorted(streams)}


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
        StoreError: as `check` does, or when `info` has no JSON form.
        OSError: when the file cannot be written.
    """
    specs = check(video, grid, streams)
    head = {
        "video": video,
        "grid": grid.to_json(),
        "streams": {name: spec.to_json() for name, spec in specs.items()},
        "info": dict(info),
        "fingerprint": fingerprint,
    }
    line = to_text(head).encode() + b"\n"
    arrays = [np.ascontiguousarray(streams[name]) for name in specs]

    def content(file: Any) -> None:
        file.write(line)
        for values in arrays:
            np.lib.format.write_array(file, values, allow_pickle=False)

    write_atomic(path, content)
