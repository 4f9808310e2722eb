"""Real video: all heads, and tables of the papers, on the untrimmed KTH collection, three seeds each.

The features come from `wtal extract` with `motion`; recipes and their settings were chosen on folds of the training
subset; the validation subset is judged here.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments._run import arguments, keep
from wtal.models.heads import HEADS
from wtal.pipeline.comparison.ablation import load_ablation
from wtal.pipeline.comparison.compare import compare, planned_rows
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.recipe import load_recipe
from wtal.pipeline.workspace import Workspace

TABLES = ("tscn.table1a", "tscn.table2", "rskp.table3", "rskp.table6")
"""Tables of the papers, repeated on this collection."""


def main(argv: Sequence[str] | None = None) -> None:
    """Extract, train and judge."""
    parser = arguments(__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS.names(), help="heads to train")
    parser.add_argument("--tables", nargs="*", default=TABLES, help="ablations to run")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write the table of heads, then the ablations."""
    workspace, source = Workspace(options.workspace / "kth"), options.data / "kth-untrimmed"
    first = load_recipe(f"kth/{options.heads[0]}")
    store = extract([source / "videos"], first.extract, workspace, reporter=options.reporter).store
    tables = {"kth": planned_rows([f"kth/{head}" for head in options.heads], None)}
    titles = {"kth": "KTH untrimmed, validation"}
    for name in options.tables:
        table = load_ablation(name)
        tables[f"kth-{name}"] = planned_rows([f"kth/{name.partition('.')[0]}"], table)
        titles[f"kth-{name}"] = f"{table.title}; here on KTH untrimmed, validation"
    for name, rows in tables.items():
        comparison = compare(
            rows, options.seeds, source / "annotations.json", workspace, store, titles[name], reporter=options.reporter
        )
        keep(comparison, name, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
