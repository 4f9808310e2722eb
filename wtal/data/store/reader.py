"""Read a feature store: video id -> features on their grid, memory-mapped and bit-exact.

What is read for the first time is compared with its checksum: damage on the disk is an error, never another number.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.grid import SnippetGrid
from wtal.data.regular import require_regular
from wtal.data.store.index import INDEX, Entry, Index, check_shard, read_failures, read_index, shard_name
from wtal.errors import FormatError, StoreError
from wtal.registry import suggest

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class VideoFeatures:
    """One video: `streams` has a (T, D) array per stream, with T = `grid.num_snippets`.

    From a store they are read-only views of the memory-mapped shard; copy them before changing them. `info` is their
    origin: the reader, the shortfall, notes.
    """

    id: str
    grid: SnippetGrid
    streams: dict[str, Features]
    info: dict[str, Any]


class FeatureStore:
    """A published store, open for reading; it shows the state at the time of opening.

    Safe during running extractions: published shards never change. Pickled (to a worker) it is its path, opened again.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path = path
        self._index = index
        self._ids = tuple(sorted(index.videos))
        self._maps: dict[tuple[str, int], Features] = {}
        self._sound_accounts: set[str] = set()
        self._sound_rows: set[str] = set()

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open the store in folder `path`, and check all its shards for shape and length.

        Raises:
            StoreError: when there is no store, its index is damaged or of another version, or a shard is missing or
                truncated; the message names the file.
        """
        path = Path(path)
        return cls.of_index(path, read_index(path))

    @classmethod
    def of_index(cls, path: Path, index: Index) -> "FeatureStore":
        """Open the store in `path` from its index, and check all shards.

        Raises:
            StoreError: when a shard is missing or truncated.
        """
        for name, (rows, spec) in index.files().items():
            check_shard(path / name, rows, spec)
        return cls(path, index)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that can change the numbers, as stated by the extractor."""
        return self._index.identity

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the published videos, sorted."""
        return self._ids

    @property
    def dims(self) -> dict[str, int]:
        """Stream -> D, values per snippet; empty for an empty store."""
        return {name: spec.dim for name, spec in sorted(self._index.streams.items())}

    @property
    def dtypes(self) -> dict[str, str]:
        """Stream -> numpy type of its values."""
        return {name: spec.dtype for name, spec in sorted(self._index.streams.items())}

    @property
    def failures(self) -> dict[str, str]:
        """Video -> reason for its absence, as currently in the file.

        Raises:
            StoreError: when failures.json is damaged.
        """
        return read_failures(self.path)

    @property
    def unchecked(self) -> int:
        """Number of videos without checksums, written by an earlier version."""
        return sum(entry.entry_crc32 is None for entry in self._index.videos.values())

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, video: object) -> bool:
        return video in self._index.videos

    def __getitem__(self, video: str) -> VideoFeatures:
        """Features of one video, as views; the first time, they are compared with their checksums.

        Raises:
            StoreError: when the store does not have it, or it is damaged.
        """
        entry = self._entry(video)
        grid = self.grid(video)
        rows = slice(entry.offset, entry.offset + entry.rows)
        streams = {name: self._shard(name, entry.shard)[rows] for name in self.dims}
        if video not in self._sound_rows:
            for name, values in streams.items():
                if not entry.agrees(name, values):
                    odd = "" if np.isfinite(values).all() else ", and some are not finite"
                    shard = self.path / shard_name(name, entry.shard)
                    raise self._damaged(shard, video, f"its rows differ from their checksum{odd}")
            self._sound_rows.add(video)
        return VideoFeatures(video, grid, streams, entry.info)

    def grid(self, video: str) -> SnippetGrid:
        """Return the clock of one video.

        Raises:
            StoreError: when the store does not have it, the clock does not match its number of snippets, or its entry
                differs from its checksum.
        """
        entry = self._entry(video)
        try:
            grid = SnippetGrid.from_json(entry.grid)
        except FormatError as error:
            raise self._damaged(self.path / INDEX, video, error) from None
        if grid.num_snippets != entry.rows:
            why = f"a grid of {grid.num_snippets} snippets and {entry.rows} rows"
            raise self._damaged(self.path / INDEX, video, why)
        self._require_sound(video, entry)
        return grid

    def info(self, video: str) -> dict[str, Any]:
        """Return the origin of one video's features, not compared with its checksum.

        Raises:
            StoreError: when the store does not have the video.
        """
        return self._entry(video).info

    def fingerprint(self, video: str) -> str:
        """Return the fingerprint of a video's source file, not compared with its checksum.

        Raises:
            StoreError: when the store does not have the video.
        """
        return self._entry(video).fingerprint

    def checksums(self, video: str) -> dict[str, int]:
        """Return stream -> CRC-32 of a video's rows; empty if an earlier version wrote them.

        Raises:
            StoreError: when the store does not have the video.
        """
        return self._entry(video).rows_crc32

    def _require_sound(self, video: str, entry: Entry) -> None:
        if video not in self._sound_accounts:
            if not entry.is_sound(video):
                raise self._damaged(self.path / INDEX, video, "its entry differs from its checksum")
            self._sound_accounts.add(video)

    def _damaged(self, file: Path, video: str, why: object) -> StoreError:
        return StoreError(
            f"{file} is damaged ({video}: {why}); restore it, or run `wtal verify {quote(str(self.path))} --drop` and "
            "repeat the command that wrote it"
        )

    def _entry(self, video: str) -> Entry:
        try:
            return self._index.videos[video]
        except KeyError:
            near = suggest(video, self._ids) if len(self) <= 20 else f"it has {len(self)} videos"
            raise StoreError(f"no video {video!r} in {self.path}; {near}") from None

    def _shard(self, stream: str, number: int) -> Features:
        if (stream, number) not in self._maps:
            path = self.path / shard_name(stream, number)
            require_regular(path, StoreError)
            rows = self._index.shards[number]
            # numpy cannot map an array without rows
            self._maps[stream, number] = np.asarray(np.load(path, mmap_mode="r") if rows else np.load(path))
        return self._maps[stream, number]

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore.open, (self.path,)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, {len(self)} videos, {self.dims})"


def describe(store: FeatureStore) -> dict[str, Any]:
    """Describe a store in JSON types: identity, totals (seconds, bytes of features), failures, and each video."""
    videos = {video: _describe_video(store, video) for video in store.ids}
    snippets = sum(video["snippets"] for video in videos.values())
    row_bytes = sum(dim * np.dtype(store.dtypes[name]).itemsize for name, dim in store.dims.items())
    return {
        "path": str(store.path),
        "identity": store.identity,
        "digest": digest(store.identity),
        "num_videos": len(store),
        "snippets": snippets,
        "seconds": sum(video["seconds"] for video in videos.values()),
        "bytes": snippets * row_bytes,
        "streams": {name: {"dim": dim, "dtype": store.dtypes[name]} for name, dim in store.dims.items()},
        "readers": dict(sorted(Counter(str(video["reader"]) for video in videos.values()).items())),
        "failures": store.failures,
        "unchecked": store.unchecked,
        "videos": videos,
    }


def _describe_video(store: FeatureStore, video: str) -> dict[str, Any]:
    grid, info = store.grid(video), store.info(video)
    return {
        "fps": float(grid.fps),
        "frames": grid.frames,
        "snippets": grid.num_snippets,
        "seconds": grid.duration,
        "reader": info.get("reader", "unknown"),
        "shortfall": info.get("shortfall", 0.0),
        "notes": info.get("notes", []),
    }
