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
    recipe_set_option,
    workspace_option,
)
from wtal.commands.train import parse_seeds
from wtal.errors import UsageError
from wtal.eval.protocols import PROTOCOLS
from wtal.pipeline.comparison.compare import PAPERS
from wtal.pipeline.devices import pick_device
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.reproduction.forecast import forecast
from wtal.pipeline.reproduction.reproduce import DATASETS, planned_methods, reproduce
from wtal.pipeline.workspace import Workspace

_PROTOCOLS = f"{PAPERS}, each row by its own paper's; or one for all: {', '.join(PROTOCOLS)}."


@click.command(
    "reproduce", cls=Command, short_help="Published features -> a dataset's table, papers' rows beside ours."
)
@click.argument("dataset", metavar=f"[{'|'.join(DATASETS)}]")
@click.option("--features", type=click.Path(path_type=Path), help="Published files, as they are, or a feature store.")
@click.option("--annotations", type=click.Path(path_type=Path), required=True, help="Annotations of the dataset.")
@click.option("--methods", metavar="A,B,..", help="Heads to train. Default: all that there are recipes of.")
@click.option("--seeds", default="0,1,2", show_default=True, metavar="0,1,2", help="Each row is made once per seed.")
@click.option("--refine/--no-refine", default=True, show_default=True, help="A row of the second stage for each, too.")
@click.option("--protocol", default=PAPERS, show_default=True, metavar="NAME", help=_PROTOCOLS)
@click.option(
    "--ambiguous", type=click.Path(path_type=Path), help="File of ambiguous ranges, one `video start end` per line."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the table. Default: in the workspace.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, how long it takes and how much memory; by trial.")
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
    """Import features, train every method, refine it, judge, and write the table as Markdown and JSON.

    What is done already is taken up, so a call that was stopped goes on where it was. A method that fails says why and
    does not stop the others; the exit code is then 3. Without --features, --dry-run tries methods on random numbers.
    """
    plans = planned_methods(dataset, parse_methods(methods), assignments, refine)
    numbers, chosen, reporter = parse_seeds(seeds), pick_device(device), ConsoleReporter()
    if dry_run:
        expected = forecast(dataset, plans, len(numbers), features, annotations, chosen, reporter)
        if as_json:
            print_json(expected.to_json())
        else:
            click.echo("\n".join(expected.lines()))
        sys.exit(FINISHED_WITH_FAILURES if any(each.measured.failure for each in expected.methods) else 0)
    if features is None:
        raise UsageError("--features names the published features, or their store; only a --dry-run goes without")
    home = Workspace(workspace)
    question = Question(protocol=protocol, ambiguous=ambiguous)
    made = reproduce(dataset, plans, numbers, features, annotations, home, question, chosen, reporter)
    for path in made.write(out or home.tables / dataset):
        reporter.say(str(path))
    if as_json:
        print_json(made.to_json())
    else:
        click.echo(made.markdown())
    if any(row.failure for row in made.comparison.rows):
        sys.exit(FINISHED_WITH_FAILURES)


def parse_methods(text: str | None) -> list[str]:
    """Parse `rskp,facnet` as names; none is all.

    Raises:
        UsageError: when there is no name in it.
    """
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise UsageError(f"--methods takes names with commas, such as rskp,facnet; got {text!r}")
    return names
