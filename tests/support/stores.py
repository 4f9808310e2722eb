"""Store of features that depend only on the video's id, written as by an extraction."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter

IDENTITY = {"backbone": "i3d", "stride": 16, "flow": {"name": "tvl1", "warps": 5}}
VIDEOS = ["zebra", "a/b c", "-dash", "Übung", "x" * 400, "short"]


def grid_of(snippets: int, tail: str = "pad") -> SnippetGrid:
    return SnippetGrid(Fraction(30000, 1001), max(1, snippets * 16), Fraction(16), 16, tail)


def features(video: str, snippets: int | None = None) -> tuple[SnippetGrid, dict[str, np.ndarray]]:
    """Features that depend only on the id, as an extractor's depend on the file."""
    rng = np.random.default_rng(list(os.fsencode(video)))
    snippets = snippets if snippets is not None else int(rng.integers(1, 6))
    streams = {
        "rgb": rng.standard_normal((snippets, 5)).astype(np.float32),
        "flow": rng.standard_normal((snippets, 3)).astype(np.float16),
    }
    return grid_of(snippets), streams


def add(writer: StoreWriter, video: str) -> None:
    grid, streams = features(video)
    writer.write(
        video, grid, streams, {"reader": "pyav", "shortfall": 0.5, "notes": ["odd"]}, fingerprint=f"of {video}"
    )


def extract(path: Path, videos: list[str], after: Callable[[str], object] = lambda video: None) -> FeatureStore:
    """Follow an extraction: claim, work, write; wait for the others; publish."""
    writer = StoreWriter.open(path, IDENTITY, shard_bytes=150)
    for patient in (False, True):
        for video in videos:
            with writer.claim(video, wait=patient) as mine:
                if mine:
                    add(writer, video)
                    after(video)
    return writer.publish()


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
