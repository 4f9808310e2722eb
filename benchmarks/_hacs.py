"""A made-up collection of HACS Segments' size: annotations, and features in a store, video after video.

The lengths of HACS's videos are not in any file at hand. It was cut at four minutes, so seconds are 4 + 236 * Beta(2.2,
1.4), 150 on average. Segments are Poisson, 2.8 of them in the mean, all of one or two of the 200 classes. Features
are noise, and within a segment that of its class's direction on top: heads have something to find.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wtal.data.annotations import write_annotations
from wtal.data.assemble import DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.data.grid import SnippetGrid, frame_count
from wtal.data.store.index import Entry, Index, StreamSpec, shard_name, write_header
from wtal.eval.challenges import load_challenge

TRAINING, VALIDATION = 37_613, 5_981
STREAMS = ("rgb", "flow")
IDENTITY = {"backbone": "made-up"}
_FPS, _STRIDE = Fraction(25), Fraction(16)
_SHORTEST, _LONGEST = 4.0, 240.0
_MOST_SNIPPETS = 400
_SHARD_BYTES = 2**30


@dataclass(frozen=True)
class Size:
    """Videos of both subsets, and values per snippet in each of the two streams."""

    training: int
    validation: int
    dim: int

    @classmethod
    def of(cls, share: float, dim: int) -> "Size":
        """Return the size of a share of HACS."""
        return cls(max(1, round(share * TRAINING)), max(1, round(share * VALIDATION)), dim)

    @property
    def videos(self) -> int:
        """Videos of both subsets."""
        return self.training + self.validation


def annotations(size: Size) -> Dataset:
    """Make the videos, their lengths in seconds, and their segments."""
    rng = np.random.default_rng(0)
    classes = sorted(load_challenge("hacs").classes)
    builder = DatasetBuilder(classes)
    for number in range(size.videos):
        seconds = round(float(_SHORTEST + (_LONGEST - _SHORTEST) * rng.beta(2.2, 1.4)), 2)
        name = f"v{number:010d}"
        builder.add_video(name, "training" if number < size.training else "validation", seconds)
        shown = rng.choice(len(classes), 1 + (rng.random() < 0.05), replace=False)
        borders = np.sort(rng.uniform(0, seconds, 2 * max(len(shown), int(rng.poisson(2.8)))))
        for place, (start, end) in enumerate(borders.reshape(-1, 2)):
            builder.add_segment(name, classes[shown[place % len(shown)]], round(float(start), 2), round(float(end), 2))
    return builder.build()


def write(folder: Path, size: Size, dataset: Dataset) -> None:
    """Write `annotations.json` and the store `features`: its shards at once, where an import goes through parts."""
    write_annotations(dataset, folder / "annotations.json")
    store = folder / "features"
    store.mkdir()
    spec = StreamSpec(dim=size.dim, dtype="float16")
    rows = {video.id: clock(video.duration or 0).num_snippets for video in dataset.videos.values()}
    shards = _shards(rows, _SHARD_BYTES // (len(STREAMS) * spec.row_bytes))
    entries: dict[str, Entry] = {}
    vectors = features(size, dataset)
    for number, names in enumerate(shards):
        with ExitStack() as stack:
            files = {s: stack.enter_context((store / shard_name(s, number)).open("wb")) for s in STREAMS}
            total = sum(rows[name] for name in names)
            for file in files.values():
                write_header(file, total, spec)
            offset = 0
            for name, (video, grid, streams) in zip(names, vectors, strict=False):
                assert name == video
                for stream, file in files.items():
                    file.write(streams[stream].tobytes())
                place = {"shard": number, "offset": offset, "rows": rows[name]}
                entries[name] = Entry(grid=grid.to_json(), info={"reader": "none"}, fingerprint=name, **place)
                offset += rows[name]
    totals = tuple(sum(rows[name] for name in names) for names in shards)
    Index(identity=IDENTITY, streams=dict.fromkeys(STREAMS, spec), shards=totals, videos=entries).write(store)


def _shards(rows: Mapping[str, int], most: int) -> list[list[str]]:
    """Spread videos over shards with a limited number of rows, in order."""
    shards: list[list[str]] = [[]]
    total = 0
    for name, count in rows.items():
        if shards[-1] and total + count > most:
            shards.append([])
            total = 0
        shards[-1].append(name)
        total += count
    return shards


def clock(seconds: float) -> SnippetGrid:
    """Return the clock of a video: 25/16 snippets per second."""
    return SnippetGrid(_FPS, frame_count(_FPS, Fraction(seconds)), _STRIDE, 16)


def features(size: Size, dataset: Dataset) -> Iterator[tuple[str, SnippetGrid, Mapping[str, NDArray[np.float16]]]]:
    """Yield each video's id, its clock, and (T, D) of each stream."""
    rng = np.random.default_rng(1)
    directions = dict(zip(dataset.classes, rng.standard_normal((len(dataset.classes), size.dim)), strict=True))
    noise = rng.standard_normal((4 * _MOST_SNIPPETS, size.dim), dtype=np.float32)
    for video in dataset.videos.values():
        grid = clock(video.duration or 0)
        signal = np.zeros((grid.num_snippets, size.dim), dtype=np.float32)
        for annotation in video.annotations:
            first, last = (round(second / float(grid.period)) for second in (annotation.start, annotation.end))
            signal[first:last] += directions[annotation.label]
        starts = rng.integers(len(noise) - len(signal), size=len(STREAMS))
        streams = {
            name: np.maximum(noise[start : start + len(signal)] + signal, 0).astype(np.float16)
            for name, start in zip(STREAMS, starts, strict=True)
        }
        yield video.id, grid, streams
