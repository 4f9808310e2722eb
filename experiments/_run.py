"""Common parts of all experiments: folders, options, and output of tables."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from wtal.commands._console import ConsoleReporter
from wtal.commands.train import parse_seeds
from wtal.data.files import write_atomic, write_json
from wtal.pipeline.comparison.compare import Comparison
from wtal.pipeline.comparison.table import markdown_table, to_json

RESULTS = Path(__file__).with_name("results")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Parser with the common options of all experiments."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=root / "../shared/data", help="folder of the reference data")
    parser.add_argument(
        "--workspace", type=Path, default=root / "workspace-experiments", help="folder for stores and runs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), metavar="0,1,2", help="one run per seed")
    parser.set_defaults(reporter=ConsoleReporter())
    return parser


def keep(comparison: Comparison, name: str, out: Path, ceiling: Mapping[str, float] | None = None) -> None:
    """Write a comparison as `NAME.json` and `NAME.md`; `ceiling` is a last row: tiou -> fraction."""
    comparison = _plainly_named(comparison)
    write_json(out / f"{name}.json", _without_paths(comparison) | ({"ceiling": dict(ceiling)} if ceiling else {}))
    text = markdown_table(comparison)
    if ceiling:
        last = [f"{100 * ceiling[key]:.1f}" if key in ceiling else "" for key in comparison.keys]
        row = "| " + " | ".join(["a perfect snippet mask", *last, "", "", ""]) + " |"
        lines = text.splitlines()
        end = max(i for i, line in enumerate(lines) if line.startswith("|"))
        text = "\n".join([*lines[: end + 1], row, *lines[end + 1 :]])
    _write(text, name, out)


def keep_rows(rows: Mapping[str, object], lines: Iterable[str], name: str, out: Path) -> None:
    """Write figures as `NAME.json`, and the lines of their table as `NAME.md`."""
    write_json(out / f"{name}.json", rows)
    _write("\n".join(lines), name, out)


def _write(text: str, name: str, out: Path) -> None:
    write_atomic(out / f"{name}.md", (text + "\n").encode())
    print(text, file=sys.stdout, flush=True)


def _plainly_named(comparison: Comparison) -> Comparison:
    """Replace the paths of recipes by their names."""
    names = [row.plan.name.removesuffix(".toml").rpartition("/")[2] for row in comparison.rows]
    rows = [replace(row, plan=replace(row.plan, name=name)) for row, name in zip(comparison.rows, names, strict=True)]
    return replace(comparison, rows=tuple(rows))


def _without_paths(comparison: Comparison) -> dict[str, object]:
    """Table without the folders of runs, which differ between machines."""
    table = json.loads(json.dumps(to_json(comparison)))
    for row in table["rows"]:
        row.pop("runs", None)
    return dict(table)
