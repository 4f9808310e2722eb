"""Milliseconds to read a random video: from our store, from one `.npy` per stream and video, from one `.npz` per video.

All three contain the same float16 features; a read ends when the values of both streams have been copied into memory.
The page cache is warm: this compares formats, not disks.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import arguments, report
from benchmarks._turns import short
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter

Streams = dict[str, NDArray[Any]]
Read = Callable[[str], Streams]


def main(argv: Sequence[str] | None = None) -> None:
    """Fill the three layouts, read them in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=200, help="videos to write")
    parser.add_argument("--dim", type=int, default=1024, help="values per snippet in each of two streams")
    parser.add_argument("--reads", type=int, default=500, help="random reads in one repetition")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; the layouts take turns in each")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        videos, readers = fill(Path(folder), options.videos, options.dim)
        times = measure(readers, videos, options.reads, options.repeat)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [{"layout": name, "ms_per_read": short(1e3 * medians[name])} for name in medians]
    ratios = {f"{name} / store": short(medians[name] / medians["store"]) for name in medians if name != "store"}
    report("store", rows, ratios, options.out)


def fill(folder: Path, count: int, dim: int) -> tuple[list[str], dict[str, Read]]:
    """Write `count` videos of 20 to 300 snippets in every layout; return their ids and one reader per layout."""
    rng = np.random.default_rng(0)
    videos = [f"video-{number:05d}" for number in range(count)]
    writer = StoreWriter.open(folder / "store", {"backbone": "random"})
    for name in ("npy", "npz"):
        (folder / name).mkdir()
    for video in videos:
        snippets = int(rng.integers(20, 301))
        grid = SnippetGrid(Fraction(25), 16 * snippets, Fraction(16), 16)
        streams: Streams = {name: rng.standard_normal((snippets, dim)).astype(np.float16) for name in ("rgb", "flow")}
        writer.write(video, grid, streams, {})
        np.savez(folder / "npz" / f"{video}.npz", rgb=streams["rgb"], flow=streams["flow"])
        for name, values in streams.items():
            np.save(folder / "npy" / f"{video}-{name}.npy", values)
    store = writer.publish()
    return videos, {"store": from_store(store), "npy": from_npy(folder / "npy"), "npz": from_npz(folder / "npz")}


def from_store(store: FeatureStore) -> Read:
    """Reader that copies from the memory-mapped shards."""
    return lambda video: {name: np.array(values) for name, values in store[video].streams.items()}


def from_npy(folder: Path) -> Read:
    """Reader of one file per stream and video."""
    return lambda video: {name: np.load(folder / f"{video}-{name}.npy") for name in ("rgb", "flow")}


def from_npz(folder: Path) -> Read:
    """Reader of one uncompressed archive per video."""

    def read(video: str) -> Streams:
        with np.load(folder / f"{video}.npz") as archive:
            return dict(archive)

    return read


def measure(readers: dict[str, Read], videos: Sequence[str], reads: int, repeat: int) -> dict[str, list[float]]:
    """Seconds per read, one value per repetition; every layout reads the same videos in the same random order."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for seed in range(repeat + 1):
        order = np.random.default_rng(seed).choice(videos, reads)
        for name, read in readers.items():
            start = time.perf_counter()
            for video in order:
                read(str(video))
            times[name].append((time.perf_counter() - start) / reads)
    return {name: values[1:] for name, values in times.items()}  # the first repetition warms the page cache


if __name__ == "__main__":
    main(sys.argv[1:])
