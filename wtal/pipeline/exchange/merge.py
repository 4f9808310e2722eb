"""Stores of different streams, at different rates -> one store on a common grid (TSCN: 2 and 25/16 per second)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wtal.config import digest
from wtal.data.store import FeatureStore
from wtal.data.store.resample import resampled
from wtal.data.store.writer import StoreWriter
from wtal.errors import UsageError
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace


def merge(stores: Sequence[Path], workspace: Workspace, grid: int = 0, reporter: Reporter = SILENT) -> Path:
    """Merge stores into one with all their streams, on the grid of the store at position `grid`; return its folder.

    Videos missing from any of them are left out and reported. An interrupted merge resumes; two at once wait for each
    other video by video.

    Raises:
        UsageError: when there are fewer than two stores, two have a stream of the same name, or no video is in all.
    """
    if len(stores) < 2:
        raise UsageError(f"merging takes at least two stores, got {len(stores)}")
    opened = [FeatureStore.open(path) for path in stores]
    streams = [name for store in opened for name in store.dims]
    twice = sorted({name for name in streams if streams.count(name) > 1})
    if twice:
        raise UsageError(f"two stores have a stream {twice[0]!r}; pass stores of different streams")
    common = sorted(set.intersection(*(set(store.ids) for store in opened)))
    if not common:
        raise UsageError(f"no video is in all of {', '.join(map(str, stores))}")
    left_out = sorted(set.union(*(set(store.ids) for store in opened)) - set(common))
    if left_out:
        reporter.say(f"left out, not in every store: {len(left_out)} videos (first: {', '.join(left_out[:3])})")
    identity = _identity(opened, grid)
    target = workspace.features / f"{identity['backbone']}-merged-{digest(identity)}"
    writer = StoreWriter.open(target, identity)
    with reporter.task("merge", len(common), "video") as task:
        for key in common:
            with writer.claim(key, wait=True) as mine:
                if mine:
                    common_grid = opened[grid].grid(key)
                    values = {
                        name: resampled(value, store.grid(key), common_grid)
                        for store in opened
                        for name, value in store[key].streams.items()
                    }
                    marks = "+".join(store.fingerprint(key) or "" for store in opened)
                    writer.write(key, common_grid, values, {"reader": "merged"}, digest(marks, 16))
            task.advance()
    return writer.publish().path


def _identity(stores: Sequence[FeatureStore], grid: int) -> dict[str, Any]:
    backbones = dict.fromkeys(str(store.identity.get("backbone", "unknown")) for store in stores)
    weights = {name: value for store in stores for name, value in store.identity.get("weights", {}).items()}
    parts = [store.identity for store in stores]
    return {"backbone": "+".join(backbones), "merged": parts, "grid_of": grid, "weights": weights}
