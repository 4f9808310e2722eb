"""Parts of a page: sections of text, tables and pictures; and the page itself.

The page is one self-contained HTML file including its pictures: no script, no font, no external resource, so that it
can be sent to others. It follows the reader's choice of light or dark. Pictures are also saved next to it as PNG.
"""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.data.files import write_atomic
from wtal.report.style import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, the stem of its PNG's name, and a caption of one or two sentences."""

    name: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class PageTable:
    """Row -> column -> cell text; a row may lack columns."""

    caption: str
    rows: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Section:
    """Part of a page under a heading; `text` is plain text, with paragraphs separated by an empty line."""

    title: str
    text: str = ""
    tables: tuple[PageTable, ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Page:
    """A title, prominent `warnings`, `facts` on the input, and the sections."""

    title: str
    sections: tuple[Section, ...]
    facts: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def write_page(page: Page, folder: Path) -> Path:
    """Write the PNG of every picture and, last, `index.html` into `folder`; return the path of the latter.

    Raises:
        ValueError: when two pictures have the same name.
    """
    pictures = [picture for section in page.sections for picture in section.pictures]
    drawn = _drawn(pictures)
    for name, content in drawn.items():
        write_atomic(folder / f"{name}.png", content)
    return write_atomic(folder / "index.html", to_html(page, drawn).encode())


def write_pictures(pictures: Iterable[Picture], folder: Path) -> list[Path]:
    """Write each picture into `folder` as NAME.png; return the paths.

    Raises:
        ValueError: when two pictures have the same name.
    """
    return [write_atomic(folder / f"{name}.png", content) for name, content in _drawn(pictures).items()]


def _drawn(pictures: Iterable[Picture]) -> dict[str, bytes]:
    drawn: dict[str, bytes] = {}
    for picture in pictures:
        if picture.name in drawn:
            raise ValueError(f"two pictures are named {picture.name!r}")
        drawn[picture.name] = png(picture)
    return drawn


def png(picture: Picture) -> bytes:
    """Return the picture's PNG; equal pictures have equal bytes."""
    file = io.BytesIO()
    picture.figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def to_html(page: Page, drawn: Mapping[str, bytes]) -> str:
    """Return the page as text; `drawn` maps the name of a picture -> its PNG."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(page.sections))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in page.facts.items())
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f"<h1>{escape(page.title)}</h1>",
            *(f'<p class="warning" role="note">{escape(text)}</p>' for text in page.warnings),
            f"<dl>{facts}</dl>",
            f"<nav>{links}</nav>",
            *(_section(section, f"s{i}", drawn) for i, section in enumerate(page.sections)),
            "<footer>Written by wtal.</footer>\n</body>\n</html>\n",
        ]
    )


def _section(section: Section, anchor: str, drawn: Mapping[str, bytes]) -> str:
    paragraphs = [text.strip() for text in section.text.split("\n\n") if text.strip()]
    parts = [
        f'<section id="{anchor}">\n<h2>{escape(section.title)}</h2>',
        *(f"<p>{escape(text)}</p>" for text in paragraphs),
        *(_picture(picture, drawn[picture.name]) for picture in section.pictures),
        *(_table(table) for table in section.tables),
        "</section>",
    ]
    return "\n".join(parts)


def _picture(picture: Picture, content: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    image = f'<img alt="{escape(picture.name)}" src="{source}">'
    return f"<figure>{image}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def _table(table: PageTable) -> str:
    columns = list(dict.fromkeys(column for row in table.rows.values() for column in row))
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(row.get(column, ''))}</td>" for column in columns)
        + "</tr>"
        for name, row in table.rows.items()
    )
    return (
        f'<div class="table"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )
