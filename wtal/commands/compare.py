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
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._settings import recipe_set_option
from wtal.commands._types import InWorkspace, Name
from wtal.commands.train import parse_seeds
from wtal.config import build_overridden
from wtal.eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from wtal.pipeline.comparison.ablation import ablation_names, load_ablation
from wtal.pipeline.comparison.compare import PAPERS, compare, planned_rows
from wtal.pipeline.comparison.table import FORMATS, csv_table, markdown_table, text_table, to_json
from wtal.pipeline.devices import pick_device
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.recipe import recipe_names
from wtal.pipeline.workspace import Workspace

_PROTOCOLS = f"Rules to judge every row by: {', '.join(PROTOCOLS)}; or {PAPERS}, each row by its paper's."
_TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table}


@click.command(
    "compare",
    cls=Command,
    resumes=True,
    short_help="Compare recipes in one table, next to published rows.",
)
@click.argument("recipes", nargs=-1, required=True, type=Name(recipe_names), metavar="RECIPES...")
@click.option(
    "--ablation",
    type=Name(ablation_names),
    metavar="NAME",
    help="Table of a paper to reproduce, such as tscn.table1a (`wtal list ablations`).",
)
@click.option(
    "--store", type=InWorkspace("features"), help="Feature store. Default: the only one in the workspace that fits."
)
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file. Default: the workspace's only one."
)
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="0,1,2",
    help="Seeds of training, comma-separated; every row is trained once per seed.",
)
@click.option(
    "--protocol",
    type=Choice([*PROTOCOLS, PAPERS]),
    default=DEFAULT_PROTOCOL,
    show_default=True,
    metavar="NAME",
    help=_PROTOCOLS,
)
@click.option(
    "--ambiguous",
    type=click.Path(path_type=Path),
    help="File of ambiguous time ranges, one `video start end` per line.",
)
@click.option("--format", "form", type=Choice(FORMATS), default="text", show_default=True, help="Format of the table.")
@click.option(
    "--refine/--no-refine",
    default=None,
    help="Add a row per recipe for its second stage. Default: as in the recipe.",
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

    Finished work is reused, so an interrupted call continues where it stopped. With --ablation, each row of that table
    is trained with each recipe. A row that fails reports why and does not stop the others.
    """
    table = load_ablation(ablation) if ablation else None
    root = Workspace(workspace)
    rows = build_overridden(assignments, lambda chosen: planned_rows(recipes, table, chosen, refine))
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
