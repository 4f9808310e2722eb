"""Write a feature store: parts while running, published together; safe against kill -9 and concurrent writers.

Each finished video is one file in `parts/`. `publish` streams all parts, in order of their ids, into new shards, and
renames the index into place last. If it is killed at any moment, published videos are unchanged, finished ones are
kept, and the next run resumes from there to the same bytes.

Any number of processes may fill one store. A video is processed under a claim, index and failures change under the
store's lock, and both locks are released when their holder dies.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from wtal.data.files import atomic_file, room_for
from wtal.data.grid import SnippetGrid
from wtal.data.locks import Lock, locked, sweep
from wtal.data.regular import require_regular
from wtal.data.store import Features, FeatureStore, VideoFeatures
from wtal.data.store import part as store_part
from wtal.data.store.index import (
    FAILURES,
    INDEX,
    LOCK,
    Account,
    Entry,
    Index,
    StreamSpec,
    is_shard_name,
    read_failures,
    read_index,
    shard_name,
    to_text,
    write_failures,
    write_header,
)
from wtal.data.store.part import Part, key_of
from wtal.errors import StoreError, TakenError

VideoState = Literal["new", "failed", "written", "published"]
SHARD_BYTES = 2**30

_PARTS = "parts"


class StoreWriter:
    """A feature store, open for writing. Threads may share one; processes open their own.

    A run claims each video, writes or fails it, and publishes at the end. Videos claimed by another process are skipped
    and claimed again with `wait=True` before publishing: then the store has all of them, whichever process was faster.
    """

    def __init__(self, path: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.path = path
        self._shard_bytes = shard_bytes
        self._parts = path / _PARTS
        self._held: set[str] = set()
        self._seen: tuple[tuple[int, int, int], Index] | None = None
        self._streams: dict[str, StreamSpec] = {}

    @classmethod
    def open(cls, path: str | Path, identity: Mapping[str, Any], *, shard_bytes: int = SHARD_BYTES) -> "StoreWriter":
        """Open the store in folder `path`; create it (empty, but already readable) if there is none.

        `identity` is everything that can change the numbers, as JSON types. A shard ends before the video with which it
        would exceed `shard_bytes`, counted over all streams.

        Raises:
            StoreError: when the folder has a store of another identity or other files, or cannot be written.
        """
        writer = cls(Path(path), shard_bytes)
        with _one_line(writer.path):
            writer.path.mkdir(parents=True, exist_ok=True)
            _refuse_other_files(writer.path)
            with locked(writer.path / LOCK):
                if not (writer.path / INDEX).exists():
                    Index(identity=json.loads(to_text(dict(identity)))).write(writer.path)
        _refuse_other_identity(writer.path, writer._index().identity, identity)
        return writer

    @classmethod
    def find(cls, path: str | Path, identity: Mapping[str, Any]) -> "StoreWriter | None":
        """Return the store that `open` would continue, None if it would create one; nothing is written or locked.

        Raises:
            StoreError: when the folder has a store of another identity or other files.
        """
        writer = cls(Path(path))
        if not writer.path.is_dir():
            return None
        _refuse_other_files(writer.path)
        if not (writer.path / INDEX).exists():
            return None
        _refuse_other_identity(writer.path, writer._index().identity, identity)
        return writer

    def state(self, video: str) -> VideoState:
        """Return the state of a video: published, written (in a part), failed, or new."""
        # A part is removed only after its video is in the index: in this order one of the two always shows it.
        if self._part(video).exists():
            return "written"
        if video in self._index().videos:
            return "published"
        return "failed" if video in read_failures(self.path) else "new"

    def done(self, video: str) -> bool:
        """Return True if nothing is left to do: the video is published, or in a part."""
        return self._part(video).exists() or video in self._index().videos

    def fingerprint(self, video: str) -> str | None:
        """Return the fingerprint of the source file of a published or written video; None if it is neither."""
        try:
            return Part.read(self._part(video)).header.fingerprint
        except FileNotFoundError:
            entry = self._index().videos.get(video)
            return entry.fingerprint if entry else None

    def account(self, video: str) -> tuple[SnippetGrid, Mapping[str, Any]] | None:
        """Return the clock of a published or written video, and the origin of its features; None if it is neither.

        Raises:
            StoreError: when its part is damaged.
        """
        try:
            entry: Account | None = Part.read(self._part(video)).header
        except FileNotFoundError:
            entry = self._index().videos.get(video)
        return (SnippetGrid.from_json(entry.grid), entry.info) if entry else None

    def read(self, video: str) -> VideoFeatures:
        """Return the features of a written or published video.

        Raises:
            StoreError: when it is neither, or its part is damaged.
        """
        try:
            part = Part.read(self._part(video))
            return VideoFeatures(video, SnippetGrid.from_json(part.header.grid), part.arrays(), part.header.info)
        except FileNotFoundError:  # published, perhaps just now
            return FeatureStore.open(self.path)[video]

    @contextmanager
    def claim(self, video: str, *, wait: bool = False) -> Iterator[bool]:
        """Claim a video for the block; yields True if the caller may process it, False if it is done or claimed.

        With `wait`, the call waits for another's claim and then yields False if that one finished, True if it failed or
        died. A claim refused without waiting may be free a moment later.

        Raises:
            StoreError: when the folder cannot be written.
        """
        lock = None if self.done(video) else self._lock(video, wait=wait)
        if lock is None:
            yield False
            return
        try:
            mine = not self.done(video)
            if mine:
                self._held.add(video)
            yield mine
        finally:
            self._held.discard(video)
            lock.release()

    def write(
        self,
        video: str,
        grid: SnippetGrid,
        streams: Mapping[str, Features],
        info: Mapping[str, Any],
        fingerprint: str = "",
    ) -> None:
        """Store one finished video, {stream: (T, D) float16 or float32} on `grid`, whole or not at all.

        `info` (JSON types, no timestamps: equal input makes an equal store) and `fingerprint` are stored with it.
        Claims the video unless the caller has.

        Raises:
            StoreError: when the video is done or claimed by another process, when T, the streams, their D or type do
                not match the grid or the store, or when writing fails.
            DiskFullError: when there is no space for it.
        """
        if video not in self._held:
            with self.claim(video) as mine:
                if not mine:
                    raise StoreError(f"video {video!r} is already in {self.path}, or another process is working on it")
                return self.write(video, grid, streams, info, fingerprint)
        specs = store_part.check(video, grid, streams)
        _refuse_other_streams(video, specs, self._expected_streams() or specs)
        with _one_line(self._parts):
            store_part.write(self._part(video), video, grid, streams, info, fingerprint)
        self._streams = specs
        return None

    def fail(self, video: str, reason: str) -> None:
        """Record why a video is not in the store; publishing it later removes the reason.

        Raises:
            StoreError: when the folder cannot be written.
        """
        with _one_line(self.path), locked(self.path / LOCK):
            write_failures(self.path, {**read_failures(self.path), video: reason})

    def publish(self) -> FeatureStore:
        """Move all parts, from all processes, into the store; the index is renamed into place last.

        Existing shards are unchanged. Memory holds one video at a time.

        Raises:
            StoreError: when a part is damaged or does not match the others, or writing fails; nothing is lost then.
            DiskFullError: when there is no space for a shard in addition to the parts; nothing is lost either.
        """
        with _one_line(self.path), locked(self.path / LOCK):
            before = self._index()
            finished = self._read_parts()
            parts = [part for part in finished if part.video not in before.videos]
            after = self._write_shards(before, parts) if parts else before
            failures = read_failures(self.path)
            if not (self.path / FAILURES).exists() or not failures.keys().isdisjoint(after.videos):
                write_failures(self.path, {v: reason for v, reason in failures.items() if v not in after.videos})
            if parts:
                after.write(self.path)
            self._clean(after, finished)
        return FeatureStore.of_index(self.path, after)

    def _write_shards(self, index: Index, parts: Sequence[Part]) -> Index:
        streams = index.streams or parts[0].streams
        for part in parts:
            _refuse_other_streams(part.video, part.streams, streams)
        shards, videos = list(index.shards), dict(index.videos)
        for shard in _pack(parts, sum(spec.row_bytes for spec in streams.values()), self._shard_bytes):
            offset = 0
            for part in shard:
                account = {name: getattr(part.header, name) for name in Account.model_fields}
                videos[part.video] = Entry(**account, shard=len(shards), offset=offset, rows=part.rows)
                offset += part.rows
            self._write_shard(len(shards), offset, streams, shard)
            shards.append(offset)
        return index.model_copy(update={"streams": streams, "shards": tuple(shards), "videos": videos})

    def _write_shard(self, number: int, rows: int, streams: Mapping[str, StreamSpec], parts: Sequence[Part]) -> None:
        with ExitStack() as stack:
            files = {name: stack.enter_context(atomic_file(self.path / shard_name(name, number))) for name in streams}
            for name, spec in streams.items():
                write_header(files[name], rows, spec)
            for part in parts:
                for name, values in part.arrays().items():
                    files[name].write(values.tobytes())

    def _clean(self, index: Index, parts: Sequence[Part]) -> None:
        """Remove files that are published or never will be; the store's lock is held, so no shard is being written."""
        for part in parts:
            part.path.unlink()
        files = index.files()
        for path in self.path.iterdir():
            if _is_temporary(path):
                sweep(path)
            elif is_shard_name(path.name) and path.name not in files:
                path.unlink()
        self._clean_parts()

    def _clean_parts(self) -> None:
        if not self._parts.exists():
            return
        paths = sorted((path.name.lstrip(".").partition(".")[0], path) for path in self._parts.iterdir())
        for key, group in groupby(paths, key=lambda pair: pair[0]):
            leftovers = [path for _, path in group if path.suffix != store_part.SUFFIX]
            lock = Lock.acquire(self._parts / f"{key}.lock", wait=False) if leftovers else None
            if lock is not None:  # their writer died
                for path in leftovers:
                    if path != lock.path:
                        path.unlink(missing_ok=True)
                lock.release()
        with suppress(OSError):  # not empty: videos are being processed
            self._parts.rmdir()

    def _read_parts(self) -> list[Part]:
        parts = (Part.read(path) for path in self._parts.glob(f"*{store_part.SUFFIX}"))
        return sorted(parts, key=lambda part: part.video)

    def _expected_streams(self) -> dict[str, StreamSpec]:
        """Return the streams required of a new video; empty if there is no other video."""
        if not self._streams:
            first = next(self._parts.glob(f"*{store_part.SUFFIX}"), None)
            with suppress(FileNotFoundError):  # published in between: then they are in the index
                self._streams = Part.read(first).streams if first else {}
            self._streams = self._streams or self._index().streams
        return self._streams

    def _part(self, video: str) -> Path:
        return self._parts / f"{key_of(video)}{store_part.SUFFIX}"

    def _lock(self, video: str, *, wait: bool) -> Lock | None:
        with _one_line(self._parts):
            return Lock.acquire(self._parts / f"{key_of(video)}.lock", wait=wait)

    def _index(self) -> Index:
        """Return the published index, read again only after changes."""
        with _one_line(self.path):
            stat = (self.path / INDEX).stat()
        stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if self._seen is None or self._seen[0] != stamp:
            self._seen = (stamp, read_index(self.path))
        return self._seen[1]


def has_parts(path: Path) -> bool:
    """Return True if a store is being filled, or publishing it was interrupted."""
    return (path / _PARTS).exists()


def file_fingerprint(path: Path, ends: int = 2**20) -> str:
    """Compute a quick fingerprint of a file: its size and a digest of its first and last `ends` bytes.

    Raises:
        OSError: when the file cannot be read.
        WrongKindError: when it is a pipe or a device.
    """
    require_regular(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        hasher = hashlib.sha256(file.read(ends))
        file.seek(max(ends, size - ends))
        hasher.update(file.read(ends))
    return f"{size}-{hasher.hexdigest()[:16]}"


def _pack(parts: Sequence[Part], row_bytes: int, limit: int) -> list[list[Part]]:
    """Group parts, in order, by at most `limit` bytes; a larger video is a group of its own."""
    shards: list[list[Part]] = [[]]
    size = 0
    for part in parts:
        if shards[-1] and size + part.rows * row_bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(part)
        size += part.rows * row_bytes
    return shards


def _refuse_other_files(folder: Path) -> None:
    if (folder / INDEX).exists():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name != LOCK and not _is_temporary(path))
    # Checked again: another process may have created the store in the meantime.
    if others and not (folder / INDEX).exists():
        raise TakenError(
            f"{folder} is not a feature store and has other files ({others[0]}); name a new or empty folder"
        )


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _refuse_other_identity(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    where = difference(stored, json.loads(to_text(dict(wanted))))
    if where is not None:
        raise TakenError(f"{folder} was made by another extractor ({where}); name another folder")


def difference(stored: Any, wanted: Any, key: str = "identity") -> str | None:
    """Describe the first difference between two JSON values; None if they are equal."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        inner = (difference(stored.get(name), wanted.get(name), name) for name in sorted(stored.keys() | wanted.keys()))
        return next((line for line in inner if line is not None), None)
    return None if stored == wanted else f"{key} is {stored!r} there, {wanted!r} here"


def _refuse_other_streams(video: str, streams: Mapping[str, StreamSpec], wanted: Mapping[str, StreamSpec]) -> None:
    if streams != wanted:
        given_streams, wanted_streams = (
            ", ".join(f"{name} {spec.dim} x {spec.dtype}" for name, spec in sorted(specs.items()))
            for specs in (streams, wanted)
        )
        raise StoreError(f"video {video!r} has {given_streams}; the store has {wanted_streams}")


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Translate errors of the operating system into one-line errors."""
    try:
        with room_for(path):
            yield
    except OSError as error:
        where = error.filename or path
        raise StoreError(
            f"cannot write the feature store {path}: {where}: {error.strerror}; name another folder"
        ) from None
