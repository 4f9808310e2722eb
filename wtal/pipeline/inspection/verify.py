"""Compare stores of features and of activations with their checksums."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.regular import require_regular
from wtal.data.store import FeatureStore
from wtal.data.store.index import INDEX
from wtal.data.store.verify import damaged, drop
from wtal.data.tally import first_names
from wtal.errors import StoreError, UsageError
from wtal.pipeline.extraction.reasons import DAMAGED
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.runs import ACTIVATIONS, Run, is_run


@dataclass(frozen=True)
class Verified:
    """A store with its number of videos, those without checksums, and video -> error for the damaged ones.

    `error` is that of the whole store, "" if it could be opened.
    """

    store: Path
    videos: int = 0
    unchecked: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    error: str = ""

    @property
    def sound(self) -> bool:
        """True if there is no damage, or none any more."""
        return not self.error and len(self.dropped) == len(self.damaged)

    def sentences(self) -> list[str]:
        """Return a line on the store, and one for each damaged video."""
        if self.error:
            return [self.error]
        parts = [f"{self.videos} videos"]
        if self.damaged:
            parts.append(f"{len(self.damaged)} damaged ({first_names(self.damaged)})")
        if self.dropped:
            parts.append(f"{len(self.dropped)} dropped: repeat the command that wrote them")
        if self.unchecked:
            parts.append(f"{self.unchecked} without checksums, written by an earlier version")
        return [f"{self.store}: {', '.join(parts) if parts[1:] else f'{parts[0]}, no damage'}", *self.damaged.values()]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "store": str(self.store), "dropped": list(self.dropped)}


def verify(sources: Sequence[Path], dropping: bool = False, reporter: Reporter = SILENT) -> list[Verified]:
    """Read every video of the stores at `sources`: stores, or runs, workspaces and other folders that contain some.

    With `dropping`, damaged videos are removed, so that the command that wrote them writes them again. An ensemble that
    loses a video is unfinished again.

    Raises:
        UsageError: when a path does not exist or contains no store.
    """
    stores = [store for source in sources for store in _stores(source)]
    return [_verified(store, dropping, reporter) for store in dict.fromkeys(stores)]


def _stores(source: Path) -> list[Path]:
    if not source.exists():
        raise UsageError(f"{source} does not exist; pass a store, a run or a workspace")
    require_regular(source)
    if (source / INDEX).is_file():
        return [source]
    folders = sorted(path.parent for path in source.rglob(INDEX))
    stores = [path for path in folders if path.parent.name == "features" or path.name.startswith(ACTIVATIONS)]
    if not stores:
        raise UsageError(f"{source} contains no store; pass a store, a run or a workspace")
    return stores


def _verified(path: Path, dropping: bool, reporter: Reporter) -> Verified:
    try:
        store = FeatureStore.open(path)
    except StoreError as error:
        return Verified(path, error=str(error))
    with reporter.task(f"verify {path.name}", len(store), "video") as task:
        errors = damaged(store, lambda video: task.advance(note=video))
    dropped = _drop(path, list(errors)) if errors and dropping else []
    return Verified(path, len(store), store.unchecked, errors, tuple(dropped))


def _drop(path: Path, videos: Sequence[str]) -> list[str]:
    run = Run.open(path.parent) if is_run(path.parent) else None
    dropped = drop(path, videos, DAMAGED)
    if run is not None and run.ensemble:
        run.reopen()
    return dropped
