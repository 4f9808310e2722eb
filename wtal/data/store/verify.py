"""Compare a whole store with its checksums, and drop videos that are damaged."""

from collections.abc import Callable, Collection
from pathlib import Path

from wtal.data.locks import locked
from wtal.data.store.index import LOCK, read_failures, read_index, write_failures
from wtal.data.store.reader import FeatureStore
from wtal.errors import StoreError


def damaged(store: FeatureStore, each: Callable[[str], object] = lambda video: None) -> dict[str, str]:
    """Read every video of a store; return video -> error for those that differ from their checksums.

    `each` is called with every video.
    """
    errors = {}
    for video in store:
        if error := _error(store, video):
            errors[video] = error
        each(video)
    return errors


def drop(path: Path, videos: Collection[str], reason: str) -> list[str]:
    """Remove those of `videos` that are still damaged from the index of the store in `path`; return their ids.

    They become failures with a `reason`, until they are written again. Shards are unchanged.

    Raises:
        StoreError: when there is no store, or its index or a shard is damaged.
        OSError: when the folder cannot be written.
    """
    with locked(path / LOCK):
        index = read_index(path)
        store = FeatureStore.of_index(path, index)
        dropped = [video for video in videos if video in store and _error(store, video)]
        write_failures(path, {**read_failures(path), **dict.fromkeys(dropped, reason)})
        rest = {video: entry for video, entry in index.videos.items() if video not in set(dropped)}
        index.model_copy(update={"videos": rest}).write(path)
    return dropped


def _error(store: FeatureStore, video: str) -> str:
    """Return the error of reading a video; "" if it is sound."""
    try:
        store[video]
    except StoreError as error:
        return str(error)
    return ""
