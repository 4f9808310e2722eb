"""Parts that every experiment shares: where data and work lie, and how its tables are kept."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wtal.commands._console import ConsoleReporter
from wtal.commands.train import parse_seeds
from wtal.data.files import write_atomic, write_json
from wtal.pipeline.comparison.compare import Comparison, to_json
from wtal.pipeline.comparison.table import markdown_table

RESULTS = Path(__file__).with_name("results")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all experiments share."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=root / "../shared/data", help="the reference data")
    parser.add_argument("--workspace", type=Path, default=root / "workspace-experiments", help="stores and runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), metavar="0,1,2", help="one run a seed")
    parser.set_defaults(reporter=ConsoleReporter())
    return parser


def keep(made: Comparison, name: str, out: Path, ceiling: Mapping[str, float] | None = None) -> None:
    """Write a comparison as `NAME.json` and `NAME.md`; `ceiling` is a last row: tiou -> fraction."""
    made = _plainly_named(made)
    write_json(out / f"{name}.json", _without_paths(made) | ({"ceiling": dict(ceiling)} if ceiling else {}))
    text = markdown_table(made)
    if ceiling:
        last = [f"{100 * ceiling[key]:.1f}" if key in ceiling else "" for key in made.keys]
        row = "| " + " | ".join(["a perfect snippet mask", *last, "", "", ""]) + " |"
        lines = text.splitlines()
        end = max(i for i, line in enumerate(lines) if line.startswith("|"))
        text = "\n".join([*lines[: end + 1], row, *lines[end + 1 :]])
    write_atomic(out / f"{name}.md", (text + "\n").encode())
    print(text, file=sys.stdout, flush=True)


def _plainly_named(made: Comparison) -> Comparison:
    """The table with recipes by name where they were named by path."""
    names = [row.plan.name.removesuffix(".toml").rpartition("/")[2] for row in made.rows]
    rows = [replace(row, plan=replace(row.plan, name=name)) for row, name in zip(made.rows, names, strict=True)]
    return replace(made, rows=tuple(rows))


def _without_paths(made: Comparison) -> dict[str, object]:
    """The table without what differs from machine to machine."""
    table = json.loads(json.dumps(to_json(made)))
    for row in table["rows"]:
        row.pop("runs", None)
    return dict(table)
