"""`wtal run`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    jobs_option,
    json_option,
    print_json,
    verdicts_option,
    workspace_option,
)
from wtal.commands._judgement import print_figures, print_notes
from wtal.commands._near import Choice
from wtal.commands._settings import recipe_set_option
from wtal.commands._types import InWorkspace, Name
from wtal.commands.extract import finish
from wtal.commands.train import parse_seeds
from wtal.errors import UsageError
from wtal.eval.challenges import CHALLENGES
from wtal.extractors.backbones import BACKBONES
from wtal.models.heads import HEADS
from wtal.pipeline.chain import RunOptions, RunResult, run
from wtal.pipeline.devices import pick_device
from wtal.pipeline.ensembles.train_members import recipe_of, resolve_recipe
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.recipe import DEFAULT_RECIPE, recipe_names
from wtal.pipeline.workspace import Workspace


@click.command(
    "run", cls=Command, resumes=True, short_help="Find actions: the whole chain from videos and labels to detections."
)
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="VIDEOS...")
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file; its times are only used to judge."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Table with the columns video,label[,start,end], or a folder with one sub-folder per class.",
)
@click.option(
    "--recipe",
    type=Name(recipe_names),
    default=DEFAULT_RECIPE,
    show_default=True,
    help="TOML file, or a name from `wtal list recipes`.",
)
@click.option("--head", type=Choice(HEADS.names()), help="Head to train. Default: the recipe's.")
@click.option(
    "--backbone", type=Name(BACKBONES.names), help=f"Backbone: {', '.join(BACKBONES.names())}. Default: the recipe's."
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[STREAM=]PATH|NAME|random:SEED",
    help="Weights of the backbone, as for `wtal extract`.",
)
@click.option("--train-subset", help="Subset whose labelled videos are used for training. Default: the recipe's.")
@click.option("--test-subset", help="Subset to report on. Default: the recipe's.")
@click.option("--use-labels", is_flag=True, help="In labelled videos, look only for their own classes.")
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="0,1,2",
    help="Seeds of training, comma-separated; one run per seed.",
)
@click.option("--quick", is_flag=True, help="Train a single head once, not an ensemble.")
@click.option(
    "--check/--no-check",
    default=None,
    help="Predict held-out labels and report per class what was learned. Default: for an ensemble.",
)
@click.option(
    "--refine/--no-refine",
    default=None,
    help="Train a student on what the heads detect. Default: as in the recipe.",
)
@click.option("--challenge", type=Choice(CHALLENGES.names()), help="Also write the file of this challenge.")
@click.option(
    "--report/--no-report", default=True, help="Write a page with video players for the detections.  [default: yes]"
)
@verdicts_option
@jobs_option("Number of videos to extract at once")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and do nothing else.")
@recipe_set_option
@device_option
@workspace_option
@json_option
def command(
    videos: tuple[Path, ...],
    annotations: Path | None,
    labels: Path | None,
    recipe: str,
    weights: tuple[str, ...],
    use_labels: bool,
    seeds: str,
    quick: bool,
    check: bool | None,
    refine: bool | None,
    challenge: str | None,
    report: bool,
    verdicts: bool,
    jobs: int,
    dry_run: bool,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
    **shortcuts: str | None,
) -> None:
    """Extract, train, detect, evaluate if there is ground truth, and print the paths of the results.

    Training uses the labelled videos; all videos are searched, labelled or not. An interrupted call continues where it
    stopped. Exits with 3 if some videos failed.
    """
    if (annotations is None) == (labels is None):
        raise UsageError("pass either --annotations FILE or --labels FILE: training needs the labels of the videos")
    short = _assignments(shortcuts)
    numbers, overrides = parse_seeds(seeds), [*short, *assignments]
    resolved = recipe_of(recipe, overrides, quick, refine, short)
    if dry_run:
        print_json(resolve_recipe(resolved).plain())
        return
    checks = bool(resolved.ensemble.members) if check is None else check
    machine = Machine(jobs=jobs, device=pick_device(device))
    options = RunOptions(numbers, weights, use_labels, challenge or "", checks, report, verdicts, machine)
    source = annotations or labels
    assert source is not None
    result = run(videos, source, resolved, Workspace(workspace), options, ConsoleReporter())
    show_result(result, as_json)
    finish(result.extracted)


def _assignments(shortcuts: dict[str, str | None]) -> dict[str, str]:
    """Return the overrides that options stand for, with the spelling of these options in the call."""
    keys = {
        "head": "head.name",
        "backbone": "extract.backbone",
        "train_subset": "evaluate.train_subset",
        "test_subset": "evaluate.test_subset",
    }
    return {
        f"{keys[name]}={value}": f"--{name.replace('_', '-')} {value}"
        for name, value in shortcuts.items()
        if value is not None
    }


def show_result(result: RunResult, as_json: bool) -> None:
    """Print the figures, if there is ground truth, as in `wtal evaluate`, and the paths of the results."""
    if result.judgement:
        print_notes(result.judgement)
    if as_json:
        print_json(result.to_json())
        return
    if result.judgement:
        print_figures(result.judgement)
        click.echo()
    click.echo(f"features    {result.extracted.store}")
    for trained, detections, table in zip(result.runs, result.detections, result.tables, strict=True):
        click.echo(f"run         {trained.folder}\ndetections  {detections}\n            {table}")
    if result.submission is not None:
        click.echo(f"submission  {result.submission}")
    if result.report is not None:
        click.echo(f"report      {result.report}")
