"""Sizes of a dataset's videos before anything is imported, and a few of them as a store for trials."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np

from wtal.data.dataset import Dataset
from wtal.data.grid import SnippetGrid
from wtal.data.layout import Streams
from wtal.data.store import FeatureStore
from wtal.data.store.index import INDEX
from wtal.data.store.writer import StoreWriter
from wtal.errors import FormatError, UsageError
from wtal.pipeline.exchange.import_features import Published, read_published

_READ = 60
"""Number of files read for their rows, if each video has its own; the others' are derived from their durations."""
_PUBLISHED = {"hacs": (Fraction(2), {"rgb": 2048})}
_USUAL = (Fraction(25, 16), {"rgb": 1024, "flow": 1024})
"""Rows per second and width of published features: HACS's own, I3D's for the others."""
_POOL = 8192
"""Number of rows of noise that random videos draw from."""


@dataclass(frozen=True)
class Sizes:
    """Videos of a dataset that have features: `rows` is id -> T, `dims` stream -> D, `origin` their source.

    `load` reads a video's {stream: (T, D)}. `reading` is the time to read all files, in seconds; `to_import` whether
    they still need importing.
    """

    rows: Mapping[str, int]
    dims: Mapping[str, int]
    origin: str
    load: Callable[[str], Streams]
    reading: float = 0.0
    to_import: bool = False

    def total(self, names: Iterable[str]) -> int:
        """Return the number of rows of some videos."""
        return sum(self.rows[name] for name in names)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in single precision."""
        return 4 * sum(self.dims.values())


def sizes_of(dataset: str, labels: Dataset, features: Path | None, annotations: Path) -> Sizes:
    """Return the sizes of the videos of a feature store, of published files, or (without either) of the annotations.

    Raises:
        UsageError: when the path does not exist, or no annotated video has features, or a length.
        FormatError: when no file can be read.
    """
    if features is None:
        return _of_durations(labels, *_PUBLISHED.get(dataset, _USUAL))
    if (features / INDEX).is_file():
        return _of_store(labels, FeatureStore.open(features))
    return _of_files(labels, read_published(features, annotations))


def _of_store(labels: Dataset, store: FeatureStore) -> Sizes:
    keys = labels.match(store.ids)
    rows = {name: store.grid(key).num_snippets for name, key in keys.items()}
    rows = {name: count for name, count in rows.items() if count}
    return _some(Sizes(rows, store.dims, f"store {store.path.name}", lambda name: store[keys[name]].streams))


def _of_files(labels: Dataset, published: Published) -> Sizes:
    named = {published.video_id(item): item for item in published.items}
    matched = {name: named[key] for name, key in labels.match(named).items()}
    together = len({item.files for item in published.items}) == 1
    read = list(matched) if together else spread(sorted(matched), _READ)
    rows: dict[str, int] = {}
    dims: dict[str, int] = {}
    started = time.monotonic()
    for name in read:
        with suppress(FormatError):  # reported by the import, for each video
            streams = matched[name].load()
            dims = dims or {stream: values.shape[1] for stream, values in sorted(streams.items())}
            rows[name] = min(map(len, streams.values()))
    reading = (time.monotonic() - started) * len(matched) / max(len(read), 1)
    if read and not rows:
        matched[read[0]].load()
    guessed = _guessed(labels, rows, [name for name in matched if name not in read])
    origin = f"{published.layout}, {len(named)} videos"
    return _some(Sizes(rows | guessed, dims, origin, lambda name: matched[name].load(), reading, to_import=True))


def _guessed(labels: Dataset, rows: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """Return the rows of videos that were not read, from their durations and the rate of those that were."""
    durations = {name: video.duration for name, video in labels.videos.items() if video.duration}
    rates = [count / durations[name] for name, count in rows.items() if name in durations]
    usual = round(median(rows.values())) if rows else 0
    rate = median(rates) if rates else 0.0
    return {name: max(1, round(rate * durations[name])) if rate and name in durations else usual for name in names}


def _of_durations(labels: Dataset, rate: Fraction, dims: Mapping[str, int]) -> Sizes:
    durations = {name: video.duration for name, video in labels.videos.items() if video.duration}
    rows = {name: max(1, int(Fraction(duration) * rate)) for name, duration in durations.items()}
    rng = np.random.default_rng(0)
    noise = {stream: np.abs(rng.standard_normal((_POOL, dim), dtype=np.float32)) for stream, dim in dims.items()}

    def load(name: str) -> Streams:
        count = rows[name]
        first = sum(name.encode()) % _POOL
        return {stream: values[(first + np.arange(count)) % _POOL] for stream, values in noise.items()}

    origin = f"random numbers, {float(rate):g} rows per second of the annotated durations"
    return _some(Sizes(rows, dims, origin, load))


def _some(sizes: Sizes) -> Sizes:
    if not sizes.rows:
        raise UsageError("no annotated video has features, or a duration; name features of the annotated videos")
    return sizes


def spread(names: Sequence[str], count: int) -> list[str]:
    """Return `count` of the names, evenly from the first to the last; all if there are no more."""
    if len(names) <= count:
        return list(names)
    return [names[index] for index in np.linspace(0, len(names) - 1, count).round().astype(int)]


def by_length(sizes: Sizes, names: Iterable[str], count: int) -> list[str]:
    """Return `count` of the videos, evenly spread by length, including the longest."""
    return spread(sorted((name for name in names if name in sizes.rows), key=lambda name: sizes.rows[name]), count)


def write_sample(sizes: Sizes, names: Iterable[str], folder: Path) -> float:
    """Write some videos into a store; return the seconds this took, excluding reading."""
    writer, seconds = StoreWriter.open(folder, {"backbone": "sample"}), 0.0
    for name in names:
        streams = sizes.load(name)
        count = min(map(len, streams.values()))
        grid = SnippetGrid(Fraction(25), 16 * count, Fraction(16), 16, "drop")
        started = time.monotonic()
        writer.write(name, grid, {stream: values[:count] for stream, values in streams.items()}, {"reader": "none"})
        seconds += time.monotonic() - started
    started = time.monotonic()
    writer.publish()
    return seconds + time.monotonic() - started
