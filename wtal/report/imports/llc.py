"""LosslessCut project, as the export writes it or LosslessCut saves it. A segment that is not ticked is rejected.

LosslessCut saves by itself while it is open: that a project lies there does not say that anybody looked at the video.
"""

from collections.abc import Sequence
from pathlib import Path

from wtal.data.files import read_head
from wtal.data.programs.json5 import read_json5
from wtal.data.programs.json_types import entries, members
from wtal.errors import FormatError
from wtal.report.imports import Reviewed, counted, mark

_SUFFIX = ".llc"


def sniff(path: Path) -> bool:
    """Return whether a file has the ending and the word for segments."""
    return path.suffix.lower() == _SUFFIX and "cutSegments" in read_head(path)


def read(path: Path) -> Sequence[Reviewed]:
    """Read the video of a project, which is named by its file's name; the project lies beside it.

    Raises:
        FormatError: naming the segment that is not as LosslessCut writes it.
    """
    project = members(read_json5(path), str(path))
    name = project.get("mediaFileName")
    if not isinstance(name, str):
        raise FormatError(f"{path}: mediaFileName: wanted the name of the video's file, got {name!r}")
    marks = []
    lacking = {"segments without a name": 0, "markers, which have no end": 0}
    for number, entry in enumerate(entries(project.get("cutSegments"), f"{path}: cutSegments")):
        where = f"{path}: cutSegments[{number}]"
        cut = members(entry, where)
        if cut.get("selected") is False:
            continue
        if not cut.get("name"):
            lacking["segments without a name"] += 1
        elif cut.get("end") is None:
            lacking["markers, which have no end"] += 1
        else:
            marks.append(mark(cut.get("start", 0.0), cut["end"], cut["name"], where))
    return [Reviewed(str(path.with_name(name)), tuple(marks), (name,), notes=counted(lacking))]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return labels as they are."""
    return list(labels)
