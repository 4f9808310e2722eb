"""Gain of the second stage on three collections: one head, the default ensemble, and the student of each.

The teachers are the default recipe of a personal collection and its first member; the second stage has its default
settings. They were chosen on folds of the training subsets; the validation subsets are judged here.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from experiments._run import arguments, keep
from wtal.pipeline.comparison.compare import SECOND_STAGE, PlannedRow, compare, planned_rows
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.recipe import DEFAULT_RECIPE, load_recipe
from wtal.pipeline.workspace import Workspace

COLLECTIONS = ("kth", "ucf", "ut")
NAME = "second-stage"
SEEDS = (0, 1, 2, 3, 4)
TIOUS = "evaluate.tiou=0.5:0.9:0.1"


def main(argv: Sequence[str] | None = None) -> None:
    """Extract, train, refine and judge."""
    parser = arguments(__doc__)
    parser.set_defaults(seeds=SEEDS)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, help="collections of the reference data")
    run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> None:
    """Write one table per collection."""
    for name in options.collections:
        workspace, source = Workspace(options.workspace / name), options.data / f"{name}-untrimmed"
        extraction = load_recipe(DEFAULT_RECIPE).extract
        store = extract([source / "videos"], extraction, workspace, reporter=options.reporter).store
        comparison = compare(
            rows(), options.seeds, source / "annotations.json", workspace, store, name, reporter=options.reporter
        )
        keep(comparison, f"{NAME}-{name}", options.out)


def rows() -> list[PlannedRow]:
    """The first member of the default recipe, the ensemble, and the second stage of each."""
    ensemble = planned_rows([DEFAULT_RECIPE], None, (TIOUS,), second_stage=True)
    head = [replace(plan, recipe=plan.recipe.first_member()) for plan in ensemble]
    named = zip(
        (*head, *ensemble), ("head", f"head {SECOND_STAGE}", "ensemble", f"ensemble {SECOND_STAGE}"), strict=True
    )
    return [replace(plan, name=name) for plan, name in named]


if __name__ == "__main__":
    main(sys.argv[1:])
