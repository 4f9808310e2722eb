"""Read annotation files of any known format, write ActivityNet JSON, and compare annotations with a store."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from wtal.data.dataset import Dataset, VideoRecord
from wtal.data.files import write_json
from wtal.data.formats import DATASETS
from wtal.data.kinds import EMPTY_FOLDER, FOLDER, TEXT, VIDEOS, kind_of
from wtal.data.names import nearest, same_name
from wtal.data.regular import require_regular
from wtal.data.tally import Tally
from wtal.errors import AbsentError, FormatError, WrongKindError

_NAMED = 3
_COMPARED = 2000


def read_annotations(path: Path, format: str | None = None) -> Dataset:  # noqa: A002 (the word users know it by)
    """Read the annotations at `path` (a file or a folder), in the named format or in the one detected.

    Raises:
        AbsentError: when nothing is there.
        FormatError: when no known format or several match, or when it is damaged.
        UsageError: when there is no such format.
    """
    if not path.exists():
        raise AbsentError(
            f"there are no annotations at {path}; pass an annotation file, or a table or folder of labels"
        )
    require_regular(path)
    leaf = DATASETS.load(format or guess_format(path))
    try:
        dataset = leaf.read(path)
    except FormatError as error:
        raise error if str(path) in str(error) else FormatError(f"{path}: {error}") from None
    if not dataset.videos:
        raise FormatError(f"{path} names no video")
    return dataset


def guess_format(path: Path) -> str:
    """Detect the one format that matches the content of `path`; return its name.

    Raises:
        FormatError: when no format matches, or more than one.
    """
    fitting = [name for name in DATASETS.names() if DATASETS.load(name).sniff(path)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(DATASETS.names())
    if fitting:
        raise FormatError(f"{path} could be {' or '.join(fitting)}; name the format")
    raise WrongKindError(f"{path}: wanted annotations in a known format ({known}), got {_came(path)}")


def write_annotations(dataset: Dataset, path: Path) -> Path:
    """Write `dataset` as ActivityNet JSON, with the class order under `classes`, for `read_annotations`.

    A label without a segment, which is not part of ActivityNet's layout, becomes an annotation without `segment`.
    """
    database = {video.id: _entry(video) for video in dataset.videos.values()}
    return write_json(
        path, {"version": "wtal", "taxonomy": [], "classes": list(dataset.classes), "database": database}, indent=1
    )


def coverage(dataset: Dataset, present_ids: Iterable[str]) -> tuple[str, ...]:
    """Report annotated videos that are not among `present_ids` (of a store, a folder), and the reverse, in sentences.

    Names are compared as in `match_ids`; the result is empty if all match. For the first that do not, the nearest names
    among the others are included.
    """
    present = list(present_ids)
    matches, tally = dataset.match(present), Tally()
    for video_id in dataset.videos:
        if video_id not in matches:
            tally.add("annotated videos that are missing", video_id)
    for video_id in sorted(set(present).difference(matches.values())):
        tally.add("videos that the annotations do not name", video_id)
    return (*tally.sentences(), *_nearest(dataset, matches, present))


def _nearest(dataset: Dataset, matches: Mapping[str, str], present: Iterable[str]) -> Iterator[str]:
    others = list(set(present).difference(matches.values()))[:_COMPARED]
    for video_id in islice((name for name in dataset.videos if name not in matches), _NAMED):
        if twin := same_name(video_id, matches):
            yield f"{video_id!a} is missing: it names the same file as {twin!a}; give the file one entry"
        elif near := nearest(video_id, others):
            yield f"{video_id!r} is missing; the nearest name is {near!r}"


def _entry(video: VideoRecord) -> dict[str, Any]:
    segments = [{"label": a.label, "segment": [a.start, a.end]} for a in video.annotations]
    localized = {annotation.label for annotation in video.annotations}
    whole = [{"label": label} for label in video.labels if label not in localized]
    duration = {} if video.duration is None else {"duration": video.duration}
    ambiguous = {"ambiguous": [[r.start, r.end] for r in video.ambiguous]} if video.ambiguous else {}
    absent = {"absent": list(video.absent)} if video.absent else {}
    return {"subset": video.subset, **duration, "annotations": segments + whole, **ambiguous, **absent}


def _came(path: Path) -> str:
    kind = kind_of(path)
    if kind == TEXT:
        return f"{kind}; a table of labels begins with a header: video,label[,start,end]"
    if kind in (VIDEOS, FOLDER, EMPTY_FOLDER):
        return f"{kind}; a folder of labels has one sub-folder per class with videos in it, or W-TALC's arrays"
    return kind
