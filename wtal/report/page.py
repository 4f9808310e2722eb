"""What a page is made of: sections of text, tables and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, the stem of its PNG's name, and a sentence or two that say how to read it."""

    name: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class Table:
    """Row -> column -> what stands there, ready to be read; a row may lack columns."""

    caption: str
    rows: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading; `text` is plain, its paragraphs apart by an empty line."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
