"""`wtal compare`."""

import sys
from pathlib import Path

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    recipe_set_option,
    workspace_option,
)
from wtal.commands.train import parse_seeds
from wtal.config import blamed
from wtal.eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from wtal.pipeline.comparison.ablation import load_ablation
from wtal.pipeline.comparison.compare import PAPERS, compare, planned_rows, to_json
from wtal.pipeline.comparison.table import FORMATS, csv_table, markdown_table, text_table
from wtal.pipeline.devices import pick_device
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.workspace import Workspace

_PROTOCOLS = f"Judges every row, at its recipe's thresholds: {', '.join(PROTOCOLS)}; or {PAPERS}, each by its paper's."
_TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table}


@click.command("compare", cls=Command, short_help="Many heads and seeds -> one table beside the published rows.")
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPES...")
@click.option("--ablation", metavar="NAME", help="A paper's table, such as tscn.table1a (`wtal list ablations`).")
@click.option("--store", type=click.Path(path_type=Path), help="Feature store. Default: the workspace's fitting one.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Labels. Default: the workspace's only file.")
@click.option("--seeds", default="0", show_default=True, metavar="0,1,2", help="Each row is trained once per seed.")
@click.option("--protocol", default=DEFAULT_PROTOCOL, show_default=True, metavar="NAME", help=_PROTOCOLS)
@click.option(
    "--ambiguous", type=click.Path(path_type=Path), help="File of ambiguous ranges, one `video start end` per line."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Format of the table."
)
@click.option(
    "--refine/--no-refine",
    default=None,
    help="A second row for each: a student learns from what it detects. Default: as the recipe says.",
)
@recipe_set_option
@device_option
@workspace_option
@json_option
def command(
    recipes: tuple[str, ...],
    ablation: str | None,
    store: Path | None,
    annotations: Path | None,
    seeds: str,
    protocol: str,
    ambiguous: Path | None,
    form: str,
    refine: bool | None,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Train, detect and judge every recipe, and print one table.

    What is done already is taken up, so a call that was stopped goes on where it was. With --ablation each row of
    that table is made on each recipe. A row that fails says why and does not stop the others.
    """
    table = load_ablation(ablation) if ablation else None
    root = Workspace(workspace)
    with blamed(assignments, lambda: planned_rows(recipes, table, (), refine)):
        rows = planned_rows(recipes, table, assignments, refine)
    comparison = compare(
        rows,
        parse_seeds(seeds),
        annotations or root.only_annotations(),
        root,
        store,
        table.title if table else "",
        pick_device(device),
        Question(protocol=protocol, ambiguous=ambiguous),
        ConsoleReporter(),
    )
    if as_json or form == "json":
        print_json(to_json(comparison))
    else:
        click.echo(_TABLES[form](comparison))
    if any(row.failure for row in comparison.rows):
        sys.exit(FINISHED_WITH_FAILURES)
