"""One file per program whose corrections are read back. The contract of a file is `ImportLeaf`.

A leaf has the name of the export whose files it reads. It returns the content of a file: the changes follow from a
comparison with the export, in `wtal.report.corrections`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

from wtal.data.detections import is_number
from wtal.errors import FormatError
from wtal.registry import Registry

Unit = Literal["seconds", "frames"]


@dataclass(frozen=True)
class Mark:
    """A segment as in a program's file: seconds, or the first frame and the one after its last, from 0."""

    start: float
    end: float
    label: str
    unit: Unit = "seconds"


@dataclass(frozen=True)
class Reviewed:
    """A video in a program's file.

    `video` is its name in the file, a path, a name or an id, and `otherwise` are alternative names. `rate` is the rate
    of frame numbers, None for the video's own. `looked_at` is True if the file marks the review of the video as
    finished. `notes` list omissions, with reasons.
    """

    video: str
    marks: tuple[Mark, ...]
    otherwise: tuple[str, ...] = ()
    rate: Fraction | None = None
    looked_at: bool = False
    notes: tuple[str, ...] = ()


class ImportLeaf(Protocol):
    """A module of `imports/`."""

    def sniff(self, path: Path) -> bool:
        """Return whether a file looks like one of this program and of no other; False if there is none."""

    def read(self, path: Path) -> Sequence[Reviewed]:
        """Read the videos of a file.

        Raises:
            FormatError: naming the malformed place in the file.
        """

    def spelled(self, labels: Sequence[str]) -> list[str]:
        """Return the spelling of labels in the export of this name, in the same order."""


IMPORTS = Registry[ImportLeaf]("import", __name__, ImportLeaf)


def mark(start: object, end: object, label: object, where: str, unit: Unit = "seconds") -> Mark:
    """Return a segment from parsed values.

    Raises:
        FormatError: naming `where`, when the times are not numbers or out of order, or the label is not text.
    """
    if not isinstance(label, str):
        raise FormatError(f"{where}: wanted text as the label, got {label!r}")
    if not (is_number(start) and is_number(end)):
        raise FormatError(f"{where}: wanted two finite numbers as times, got {start!r} and {end!r}")
    first, last = float(start), float(end)  # type: ignore[arg-type]
    if not (math.isfinite(first) and first <= last):
        raise FormatError(f"{where}: it ends before it begins: {start!r} to {end!r}")
    return Mark(first, last, label, unit)


def counted(counts: dict[str, int]) -> tuple[str, ...]:
    """Return reason -> number as notes; reasons that did not occur are left out."""
    return tuple(f"{count} {reason}, left out" for reason, count in counts.items() if count)
