"""Annotation files of any known format in, ActivityNet JSON out, and what a store lacks of them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.files import read_head, write_json
from wtal.data.formats import DATASETS
from wtal.data.names import nearest
from wtal.data.tally import Tally
from wtal.errors import AbsentError, FormatError

_NAMED = 3
_COMPARED = 2000


def read_annotations(path: Path, format: str | None = None) -> Dataset:  # noqa: A002 (the word users know it by)
    """Read the annotations at `path` (a file or a folder), in the named format or in the one they look like.

    Raises:
        AbsentError: when nothing is there.
        FormatError: when it looks like no known format or like several, or when it is damaged.
        UsageError: when there is no such format.
    """
    if not path.exists():
        raise AbsentError(f"no annotations at {path}")
    leaf = DATASETS.load(format or guess_format(path))
    try:
        dataset = leaf.read(path)
    except FormatError as error:
        raise error if str(path) in str(error) else FormatError(f"{path}: {error}") from None
    if not dataset.videos:
        raise FormatError(f"{path} names no video")
    return dataset


def guess_format(path: Path) -> str:
    """Name of the one format that the content of `path` looks like.

    Raises:
        FormatError: when there is none, or more than one.
    """
    fitting = [name for name in DATASETS.names() if DATASETS.load(name).sniff(path)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(DATASETS.names())
    if fitting:
        raise FormatError(f"{path} could be {' or '.join(fitting)}; name the format")
    raise FormatError(f"{path} looks like none of the annotation formats ({known}){_looks(path)}")


def write_annotations(dataset: Dataset, path: Path) -> Path:
    """Write `dataset` as ActivityNet JSON, with the class order under `classes`; `read_annotations` gives it back.

    A label without a segment, which ActivityNet's layout does not know, is written as an annotation without `segment`.
    """
    database = {video.id: _entry(video) for video in dataset.videos.values()}
    return write_json(
        path, {"version": "wtal", "taxonomy": [], "classes": list(dataset.classes), "database": database}, indent=1
    )


def coverage(dataset: Dataset, present_ids: Iterable[str]) -> tuple[str, ...]:
    """Sentences on annotated videos that are not among `present_ids` (of a store, a folder), and the other way round.

    Names are compared as `match_ids` does; nothing is said where all fit. Of the first that do not, the nearest names
    among the others are told.
    """
    present = list(present_ids)
    matches, tally = dataset.match(present), Tally()
    for video_id in dataset.videos:
        if video_id not in matches:
            tally.add("annotated videos that are not there", video_id)
    for video_id in sorted(set(present).difference(matches.values())):
        tally.add("videos that the annotations do not name", video_id)
    return (*tally.sentences(), *_nearest(dataset, matches, present))


def _nearest(dataset: Dataset, matches: Mapping[str, str], present: Iterable[str]) -> Iterator[str]:
    others = list(set(present).difference(matches.values()))[:_COMPARED]
    for video_id in islice((name for name in dataset.videos if name not in matches), _NAMED):
        if near := nearest(video_id, others):
            yield f"{video_id!r} is not there; the nearest name is {near!r}"


def _entry(video: VideoRecord) -> dict[str, Any]:
    segments = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
    shown = {annotation.label for annotation in video.annotations}
    whole = [{"label": label} for label in video.labels if label not in shown]
    duration = {} if video.duration is None else {"duration": video.duration}
    unsure = {"ambiguous": [[r.start, r.end] for r in video.ambiguous]} if video.ambiguous else {}
    absent = {"absent": list(video.absent)} if video.absent else {}
    return {"subset": video.subset, **duration, "annotations": segments + whole, **unsure, **absent}


def _looks(path: Path) -> str:
    head = read_head(path, 1 << 16)
    if '"results"' in head:
        return "; it looks like detections"
    if path.is_dir():
        return "; a folder needs one sub-folder a class with videos in it, or W-TALC's arrays"
    return "" if head.lstrip().startswith("{") else "; a table needs a header with video,label[,start,end]"
