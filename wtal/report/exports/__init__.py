"""One file per format for other programs. The contract of a file is `ExportLeaf`.

A leaf gets detections that it can hold: `wtal.report.fit` first shifts them to its clock and resolves overlaps.
"""
# ruff: noqa: N802 - members are named as modules name them

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

from wtal.data.segments import Detection
from wtal.registry import Registry

Need = Literal["file", "rate", "size", "duration"]
"""Facts about a video required by a format."""


@dataclass(frozen=True)
class ExportVideo:
    """One video to be exported: facts about its file, and its detections, sorted by time.

    `start` is the second at which a player shows the first picture, `file_start` the beginning of the file's own clock,
    which players show as 0. `duration` is that of the picture, in seconds. `rate` (frames per second) is None if
    unknown or variable, the latter with `variable`. `size` is (width, height) as shown. `relative` is the file's path
    below the folder of videos. `verdicts` maps class -> verdict of the label check, empty without a check.
    """

    id: str
    detections: tuple[Detection, ...]
    file: Path | None = None
    relative: str = ""
    start: Fraction = Fraction(0)
    file_start: Fraction = Fraction(0)
    duration: float | None = None
    rate: Fraction | None = None
    variable: bool = False
    frames: int | None = None
    size: tuple[int, int] | None = None
    sound: bool = False
    verdicts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name if known, else the id."""
        return self.file.name if self.file else self.id

    @property
    def end(self) -> float | None:
        """Second at which a player has shown the last picture; None if the duration is unknown."""
        return None if self.duration is None else float(self.start) + self.duration


@dataclass(frozen=True)
class Export:
    """Facts about a format: its readers and its capabilities.

    `suffix` ends the names of its files. `overlaps` determines which detections may overlap: any, those of different
    classes (`classes`), or none. `shortest` is the minimum length of a detection, in seconds. Times are those of a
    player, or, if `clock` is `picture`, count from the first shown frame. Programs look for files of formats with
    `beside` next to the video, under its name. Formats with `exact` keep labels to the letter; others get them without
    control characters. `reserved` are names that a format gives to something else than a class. Formats with `paths`
    write the path of each video on a line of its own, so it must have no line break.
    """

    readers: str
    suffix: str
    lacks: str
    per: Literal["video", "collection"] = "video"
    overlaps: Literal["any", "classes", "none"] = "any"
    shortest: float = 0.001
    needs: tuple[Need, ...] = ()
    clock: Literal["player", "picture"] = "player"
    beside: bool = False
    exact: bool = False
    reserved: tuple[str, ...] = ()
    paths: bool = False


@dataclass(frozen=True)
class Sheet:
    """The content of one file, and notes on what it could not hold."""

    text: str
    notes: tuple[str, ...] = ()


class ExportLeaf(Protocol):
    """A module of `exports/`."""

    @property
    def EXPORT(self) -> Export:
        """Facts about the format."""

    def render(self, videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
        """Return a file's content, for one video or for a whole collection, depending on the format.

        `classes` are those of the whole collection, sorted.

        Raises:
            VideoError: when the format cannot represent the detections.
        """


EXPORTS = Registry[ExportLeaf]("export", __name__, ExportLeaf)
