"""Validate stores of class activations before reading from them."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from wtal.config import Record
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, StoreError

_LARGEST = float(np.finfo(np.float32).max)

Score = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]


class _Scores(Record):
    """Metadata of a video: the scores of its classes, and those of each stream if a head has a model per stream."""

    video_scores: list[Score]
    stream_scores: dict[str, list[Score]] = Field(default_factory=dict)


def sound_activations(store: FeatureStore, classes: Sequence[str]) -> FeatureStore:
    """Return a store of activations of these classes, once every video is complete.

    Raises:
        StoreError: when the store is of another kind, or damaged.
    """
    where = f"{store.path / 'index.json'} is damaged"
    way_out = f"delete {store.path}; activations will be recomputed"
    widths = {len(classes), len(classes) + 1}
    for key in store.ids:
        try:
            scores = _Scores.parse(store.info(key))
        except ConfigError as error:
            raise StoreError(f"{where} ({key}: {error}); {way_out}") from None
        if any(len(each) != len(classes) for each in (scores.video_scores, *scores.stream_scores.values())):
            raise StoreError(f"{where} ({key}: scores do not cover {len(classes)} classes); {way_out}")
        wanted = {"cas", *(f"cas_{name}" for name in scores.stream_scores)}
        if lacking := [name for name in wanted if store.dims.get(name) not in widths]:
            raise StoreError(f"{where} ({key}: no {min(lacking)} for {len(classes)} classes); {way_out}")
    return store
