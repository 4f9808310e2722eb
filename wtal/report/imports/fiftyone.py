"""FiftyOne temporal detections: the `labels.json` of an exported dataset.

FiftyOne does not record which samples were opened, so the file does not either.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wtal.data.detections import is_number
from wtal.data.files import read_head, read_json
from wtal.data.programs.json_types import entries, members
from wtal.errors import FormatError
from wtal.report.imports import Mark, Reviewed, mark


def sniff(path: Path) -> bool:
    """Return whether a file is an object with `classes` and `labels`, and not one of FERAL or of detections."""
    head = read_head(path)
    other = any(f'"{key}"' in head for key in ("class_names", "results", "database"))
    return head.lstrip()[:1] == "{" and '"classes"' in head and '"labels"' in head and not other


def read(path: Path) -> Sequence[Reviewed]:
    """Read the videos of a dataset.

    Raises:
        FormatError: naming the malformed video and detection.
    """
    content = members(read_json(path), str(path))
    classes = entries(content.get("classes", []), f"{path}: classes")
    videos = members(content.get("labels"), f"{path}: labels")
    return [
        Reviewed(
            video,
            tuple(
                _mark(members(entry, f"{path}: {video}"), classes, f"{path}: {video}[{number}]")
                for number, entry in enumerate(entries(detections or [], f"{path}: {video}"))
            ),
        )
        for video, detections in videos.items()
    ]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return labels unchanged."""
    return list(labels)


def _mark(entry: Mapping[str, object], classes: Sequence[object], where: str) -> Mark:
    label = entry.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        if not 0 <= label < len(classes):
            raise FormatError(f"{where}: class {label} is not among the {len(classes)} classes")
        label = classes[label]
    if entry.get("timestamps") is not None:
        start, end = _pair(entry["timestamps"], where)
        return mark(start, end, label, where)
    first, last = _pair(entry.get("support"), where)
    return mark(first - 1, last, label, where, "frames")


def _pair(value: object, where: str) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))):
        raise FormatError(f"{where}: wanted support or timestamps, two finite numbers, got {value!r}")
    return value[0], value[1]
