"""A comparison as text, Markdown, CSV or JSON."""

import csv
import io
import math
from typing import Any

from wtal.pipeline.comparison.compare import Comparison, Row

FORMATS = ("text", "markdown", "csv", "json")


def text_table(comparison: Comparison) -> str:
    """Align columns: percent, mean and spread over seeds; the reported row below each; then the remarks."""
    lines = [_header(comparison), *_lines(comparison)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(cells)).rstrip()
        for cells in ([*zip(line, widths, strict=True)] for line in lines)
    ]
    return "\n".join([*_title(comparison), *shown, *comparison.remarks])


def markdown_table(comparison: Comparison) -> str:
    """Format the same table as Markdown."""
    header, lines = _header(comparison), _lines(comparison)
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    remarks = [f"- {remark}" for remark in comparison.remarks]
    return "\n".join([*(f"**{line}**\n" for line in _title(comparison)), *table, *([""] if remarks else []), *remarks])


def csv_table(comparison: Comparison) -> str:
    """Write one line per row: fractions in full precision, spreads in their own columns, reported figures in percent.

    `comparable` is whether the conditions of all rows agree; `reported_comparable`, whether a row's figures are
    comparable with the reported ones, empty if unknown; `remarks` holds all other notes.
    """
    keys = comparison.keys
    reported = sorted({key for row in comparison.rows for key in row.plan.printed.mAP})
    columns = ["name", "head", "stage", "second_stage", "seeds"]
    columns += [f"mAP@{key}" for key in keys] + [f"spread@{key}" for key in keys]
    columns += ["parameters", "macs", "train_seconds", *(f"reported@{key}" for key in reported)]
    columns += ["features", "videos", "protocols", "comparable", "reported_comparable", "remarks", "failure"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in comparison.rows:
        stage = "" if row.plan.stage is None else row.plan.stage
        cells: list[object] = [row.plan.name, row.plan.recipe.heads, stage]
        cells += [_word(row.plan.second_stage), len(comparison.seeds)]
        cells += [row.mean(key) if key in row.values else "" for key in keys]
        cells += [row.spread(key) if key in row.values else "" for key in keys]
        cells += ["", "", ""] if row.failure else [row.parameters, row.macs, f"{row.seconds:.2f}"]
        cells += [row.plan.printed.mAP.get(key, "") for key in reported]
        stands_on = row.conditions
        cells += [stands_on.features, stands_on.videos, stands_on.protocols] if stands_on else ["", "", ""]
        cells += [_word(not comparison.differences), _word(row.like_printed), " | ".join(_notes(row)), row.failure]
        writer.writerow(cells)
    return out.getvalue().rstrip("\n")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything as JSON types: fractions for ours, percent for reported figures."""
    return {
        "title": comparison.title,
        "seeds": list(comparison.seeds),
        "comparable": not comparison.differences,
        "remarks": comparison.remarks,
        "rows": [_row_json(row) for row in comparison.rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    if row.failure:
        return {"name": row.plan.name, "failure": row.failure}
    return {
        "name": row.plan.name,
        "head": row.plan.recipe.heads,
        "stage": row.plan.stage,
        "second_stage": row.plan.second_stage,
        "runs": [str(run) for run in row.runs],
        "conditions": vars(row.conditions),
        "mAP": {
            key: {"mean": row.mean(key), "spread": row.spread(key), "seeds": row.values[key]} for key in row.values
        },
        "parameters": row.parameters,
        "macs": row.macs,
        "train_seconds": row.seconds,
        "reported": dict(row.plan.printed.mAP),
        "reported_comparable": row.like_printed,
    }


def _notes(row: Row) -> list[str]:
    return [*(f"{row.plan.name}, {run}: {note}" for run, note in row.run_notes), *row.notes]


def _word(answer: bool | None) -> str:
    return "" if answer is None else str(answer).lower()


def _title(comparison: Comparison) -> list[str]:
    seeds = ", ".join(map(str, comparison.seeds))
    what = f"mAP in percent, mean ± standard deviation over seeds {seeds}"
    if len(comparison.seeds) == 1:
        what = f"mAP in percent, seed {seeds}"
    return [f"{comparison.title}: {what}" if comparison.title else what]


def _header(comparison: Comparison) -> list[str]:
    return ["", *(f"@{key}" for key in comparison.keys), "parameters", "MACs/100", "train s"]


def _lines(comparison: Comparison) -> list[list[str]]:
    lines = []
    for row in comparison.rows:
        lines.append(_line(row, comparison.keys))
        if row.plan.printed.mAP:
            cells = [_percent(row.plan.printed.mAP.get(key)) for key in comparison.keys]
            lines.append(["  reported", *cells, "", "", ""])
    return lines


def _line(row: Row, keys: list[str]) -> list[str]:
    if row.failure:
        return [f"{row.plan.name}: failed, {row.failure}", *[""] * (len(keys) + 3)]
    cells = [_cell(row, key) for key in keys]
    return [row.plan.name, *cells, _large(row.parameters), _large(row.macs), _rounded(row.seconds)]


def _cell(row: Row, key: str) -> str:
    if key not in row.values:
        return ""
    mean = f"{100 * row.mean(key):.1f}"
    return mean if len(row.values[key]) == 1 else f"{mean} ±{100 * row.spread(key):.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _large(count: int) -> str:
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.2f} {letter}"
    return str(count)


def _rounded(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:.0f}"
