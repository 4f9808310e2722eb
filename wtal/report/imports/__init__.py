"""One file per program whose corrections are read back. `ImportLeaf` says what a file holds.

A leaf is named as the export whose files it reads. It says what stands in a file: what a person changed follows from
the comparison with what was exported, in `wtal.report.corrections`.
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
    """A segment as a program's file has it: seconds, or the frame that begins it and the one after its last, from 0."""

    start: float
    end: float
    label: str
    unit: Unit = "seconds"


@dataclass(frozen=True)
class Reviewed:
    """A video in a program's file.

    `video` is what the file calls it, a path, a name or an id, and `otherwise` what else it may be known by. `rate` is
    that in which frames are counted, None for the video's own. `looked_at` is True where the file says that a person
    has finished with the video. `notes` say what was left out, and why.
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
        """Return whether a file looks like one of this program and of no other; False where there is none."""

    def read(self, path: Path) -> Sequence[Reviewed]:
        """Read the videos of a file.

        Raises:
            FormatError: naming the place in the file that is not as the program writes it.
        """

    def spelled(self, labels: Sequence[str]) -> list[str]:
        """Return how the export of this name writes labels, each of them in its place."""


IMPORTS = Registry[ImportLeaf]("import", __name__, ImportLeaf)


def mark(start: object, end: object, label: object, where: str, unit: Unit = "seconds") -> Mark:
    """Return a segment of values that were read.

    Raises:
        FormatError: naming `where`, when the times are no numbers or in no order, or the label is no text.
    """
    if not isinstance(label, str):
        raise FormatError(f"{where}: wanted a text as label, got {label!r}")
    if not (is_number(start) and is_number(end)):
        raise FormatError(f"{where}: wanted two finite numbers as times, got {start!r} and {end!r}")
    first, last = float(start), float(end)  # type: ignore[arg-type]
    if not (math.isfinite(first) and first <= last):
        raise FormatError(f"{where}: it ends before it begins: {start!r} to {end!r}")
    return Mark(first, last, label, unit)


def counted(counts: dict[str, int]) -> tuple[str, ...]:
    """Return reason -> number as notes; reasons that did not occur are left out."""
    return tuple(f"{count} {reason}, left out" for reason, count in counts.items() if count)
