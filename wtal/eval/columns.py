"""Segments by video as columns of numbers, for the judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.segments import Segment

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]

UNKNOWN = -1
"""Code of a label that is not among the classes."""

_SMALL = 1 << 16
"""Codes below this are sorted by radix, which is almost free."""


@dataclass(frozen=True)
class Columns:
    """N segments in the order of the input: codes of video (N,) and label (N,), times (N, 2) in seconds."""

    video: Ints
    label: Ints
    times: Floats

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class ScoredColumns(Columns):
    """Columns of detections, with their scores (N,)."""

    score: Floats

    def take(self, index: Any) -> "ScoredColumns":
        """Select the detections at `index`: indices, or a mask."""
        return ScoredColumns(self.video[index], self.label[index], self.times[index], self.score[index])


def codes(names: Sequence[str]) -> dict[str, int]:
    """Map names to their indices."""
    return {name: i for i, name in enumerate(names)}


def columns(
    videos: Mapping[str, Sequence[Segment]], video_codes: Mapping[str, int], label_codes: Mapping[str, int] | None
) -> Columns:
    """Convert segments by video id to columns; all labels are 0 without label codes."""
    flat = list(chain.from_iterable(videos.values()))
    return Columns(_videos(videos, video_codes), _labels(flat, label_codes), _times(flat))


def scored_columns(
    videos: Mapping[str, Sequence[Any]], video_codes: Mapping[str, int], label_codes: Mapping[str, int] | None
) -> ScoredColumns:
    """Convert detections by video id to columns, as in `columns`."""
    flat = list(chain.from_iterable(videos.values()))
    score = np.fromiter([detection.score for detection in flat], np.float64, len(flat))
    return ScoredColumns(_videos(videos, video_codes), _labels(flat, label_codes), _times(flat), score)


def _videos(videos: Mapping[str, Sequence[Segment]], video_codes: Mapping[str, int]) -> Ints:
    numbers = [video_codes[name] for name in videos]
    return np.repeat(np.array(numbers, np.intp), [len(segments) for segments in videos.values()])


def _labels(flat: Sequence[Any], label_codes: Mapping[str, int] | None) -> Ints:
    if label_codes is None:
        return np.zeros(len(flat), np.intp)
    known = _Codes(label_codes)
    return np.fromiter([known[segment.label] for segment in flat], np.intp, len(flat))


class _Codes(dict[str, int]):
    def __missing__(self, label: str) -> int:
        return UNKNOWN


def _times(flat: Sequence[Segment]) -> Floats:
    times = np.empty((len(flat), 2))
    times[:, 0] = np.fromiter([segment.start for segment in flat], np.float64, len(flat))
    times[:, 1] = np.fromiter([segment.end for segment in flat], np.float64, len(flat))
    return times


def stable_order(*keys: Ints | Floats) -> Ints:
    """Sort by keys (N,), the last being the primary one: `numpy.lexsort`, but faster."""
    order = np.argsort(keys[0], kind="stable")
    for key in keys[1:]:
        small = key.dtype.kind == "i" and key.max(initial=0) < _SMALL and key.min(initial=0) >= 0
        order = order[np.argsort(key[order].astype(np.uint16 if small else key.dtype), kind="stable")]
    return order
