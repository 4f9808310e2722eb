"""LosslessCut project, as exported or as saved by LosslessCut. A segment that is not ticked is rejected.

LosslessCut saves automatically while it is open: the presence of a project does not mean that the video was looked at.
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
    """Return whether a file has the right extension and the key for segments."""
    return path.suffix.lower() == _SUFFIX and "cutSegments" in read_head(path)


def read(path: Path) -> Sequence[Reviewed]:
    """Read the video of a project, given by its file's name; the project is next to it.

    Raises:
        FormatError: naming the malformed segment.
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
    """Return labels unchanged."""
    return list(labels)
