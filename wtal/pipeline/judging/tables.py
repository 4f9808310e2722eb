"""Tables of metrics: as text, Markdown or CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from wtal.eval.bootstrap import AVERAGE
from wtal.eval.thresholds import averages, covered_ranges, mean_over, tiou_key

FORMATS = ("text", "markdown", "csv", "json")

Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Figures:
    """Fractions by row and column; a row may lack columns.

    `below` are columns printed as lines under the text table, from the first row only. `notes` are sentences on
    omissions; they go to stderr, and into Markdown.
    """

    rows: Rows
    below: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    title: str = ""

    @property
    def columns(self) -> list[str]:
        """Column names, in the order of their first appearance."""
        return list(dict.fromkeys(column for row in self.rows.values() for column in row))


def tiou_row(by_tiou: Mapping[float, float]) -> dict[str, float]:
    """Return the cells of one row: a figure at each threshold, then its means over thresholds."""
    at = {f"@{tiou_key(tiou)}": value for tiou, value in by_tiou.items()}
    return at | {f"{AVERAGE} {name}".strip(): value for name, value in shown_averages(by_tiou).items()}


def shown_averages(by_tiou: Mapping[float, float]) -> dict[str, float]:
    """Return the means printed in papers: `0.1:0.7` -> mean over these thresholds.

    If none of these ranges covers all thresholds, the mean over all has an empty name.
    """
    means, ranges = averages(by_tiou), covered_ranges([*by_tiou])
    covers_all = any(len(inside) == len(by_tiou) for inside in ranges.values())
    return means if covers_all else {**means, "": mean_over(by_tiou, by_tiou)}


def text_table(figures: Figures) -> str:
    """Align columns in percent, then add a line for each figure below."""
    columns = [column for column in figures.columns if column not in figures.below]
    name = max(len("percent"), *map(len, figures.rows))
    widths = [max(6, len(column)) for column in columns]
    lines = [["percent", *columns], *([row, *_percent(cells, columns)] for row, cells in figures.rows.items())]
    table = [
        "  ".join([first.ljust(name), *(cell.rjust(width) for cell, width in zip(rest, widths, strict=True))]).rstrip()
        for first, *rest in lines
    ]
    title = [figures.title] if figures.title else []
    top = next(iter(figures.rows.values()))
    return "\n".join([*title, *table, *(f"{column} {100 * top[column]:.2f}" for column in figures.below)])


def markdown_table(figures: Figures) -> str:
    """Format a Markdown table in percent, with the notes as a list below."""
    columns = figures.columns
    lines = [["percent", *columns], ["---", *("---:" for _ in columns)]]
    lines += [[row.replace("|", "\\|"), *_percent(cells, columns)] for row, cells in figures.rows.items()]
    title = [f"{figures.title}\n"] if figures.title else []
    notes = ["", *(f"- {note}" for note in figures.notes)] if figures.notes else []
    return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in lines), *notes])


def csv_table(figures: Figures) -> str:
    """Write one line per row: fractions in full precision, empty cells where there is no figure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", *figures.columns])
    for row, cells in figures.rows.items():
        writer.writerow([row, *(cells.get(column, "") for column in figures.columns)])
    return out.getvalue().rstrip("\n")


def _percent(cells: Mapping[str, float], columns: list[str]) -> list[str]:
    return [f"{100 * cells[column]:.2f}" if column in cells else "" for column in columns]
