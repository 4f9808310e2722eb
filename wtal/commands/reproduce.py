"""`wtal reproduce`."""

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
from wtal.errors import UsageError
from wtal.eval.protocols import PROTOCOLS
from wtal.models.heads import HEADS
from wtal.pipeline.comparison.compare import PAPERS
from wtal.pipeline.devices import pick_device
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.reproduction.forecast import forecast
from wtal.pipeline.reproduction.reproduce import DATASETS, planned_methods, reproduce
from wtal.pipeline.workspace import Workspace

_PROTOCOLS = f"Rules to judge by: {PAPERS}, each row by its own paper's; or one for all: {', '.join(PROTOCOLS)}."


@click.command(
    "reproduce",
    cls=Command,
    resumes=True,
    short_help="Reproduce a dataset's table from published features.",
)
@click.argument("dataset", type=Choice(DATASETS), metavar=f"[{'|'.join(DATASETS)}]")
@click.option(
    "--features", type=InWorkspace("features"), help="Published feature files, unchanged, or a feature store."
)
@click.option("--annotations", type=InWorkspace("annotations"), required=True, help="Annotation file of the dataset.")
@click.option(
    "--methods",
    type=Name(HEADS.names),
    metavar="A,B,..",
    help="Heads to train, comma-separated. Default: all that have a recipe.",
)
@click.option(
    "--seeds",
    default="0,1,2",
    show_default=True,
    metavar="0,1,2",
    help="Seeds of training, comma-separated; every row is made once per seed.",
)
@click.option("--refine/--no-refine", default=True, show_default=True, help="Add a row per head for its second stage.")
@click.option(
    "--protocol", type=Choice([PAPERS, *PROTOCOLS]), default=PAPERS, show_default=True, metavar="NAME", help=_PROTOCOLS
)
@click.option(
    "--ambiguous",
    type=click.Path(path_type=Path),
    help="File of ambiguous time ranges, one `video start end` per line.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the table. Default: tables/DATASET in the workspace.",
)
@click.option("--dry-run", is_flag=True, help="Print what would run, with time and memory estimated by a trial.")
@recipe_set_option
@device_option
@workspace_option
@json_option
def command(
    dataset: str,
    features: Path | None,
    annotations: Path,
    methods: str | None,
    seeds: str,
    refine: bool,
    protocol: str,
    ambiguous: Path | None,
    out: Path | None,
    dry_run: bool,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Reproduce a dataset's table: import features, train, refine and evaluate every method, write Markdown and JSON.

    Finished work is reused, so an interrupted call continues where it stopped. A method that fails reports why and does
    not stop the others; the exit code is then 3. Without --features, --dry-run tries the methods on random numbers.
    """
    names = parse_methods(methods)
    plans = build_overridden(assignments, lambda chosen: planned_methods(dataset, names, chosen, refine))
    numbers, chosen, reporter = parse_seeds(seeds), pick_device(device), ConsoleReporter()
    if dry_run:
        expected = forecast(dataset, plans, len(numbers), features, annotations, chosen, reporter)
        if as_json:
            print_json(expected.to_json())
        else:
            click.echo("\n".join(expected.lines()))
        sys.exit(FINISHED_WITH_FAILURES if any(each.measured.failure for each in expected.methods) else 0)
    if features is None:
        raise UsageError(
            "--features is required: the published features, or a store of them; only --dry-run works without it"
        )
    home = Workspace(workspace)
    question = Question(protocol=protocol, ambiguous=ambiguous)
    reproduction = reproduce(dataset, plans, numbers, features, annotations, home, question, chosen, reporter)
    for path in reproduction.write(out or home.tables / dataset):
        reporter.say(str(path))
    if as_json:
        print_json(reproduction.to_json())
    else:
        click.echo(reproduction.markdown())
    if any(row.failure for row in reproduction.comparison.rows):
        sys.exit(FINISHED_WITH_FAILURES)


def parse_methods(text: str | None) -> list[str]:
    """Parse `rskp,facnet` as names; no text means all.

    Raises:
        UsageError: when there is no name in it.
    """
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise UsageError(f"--methods takes names separated by commas, such as rskp,facnet; got {text!r}")
    return names
