"""`wtal evaluate`."""

from pathlib import Path

import click

from wtal.cli._console import Command, json_option, map_table, print_json
from wtal.errors import UsageError
from wtal.pipeline.evaluate import evaluate_file, evaluate_run, over_seeds
from wtal.pipeline.recipe import EvaluateConfig

_DEFAULT = EvaluateConfig()


@click.command("evaluate", cls=Command, short_help="Detections and annotations -> mAP.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|FILE")
@click.option("--annotations", type=click.Path(path_type=Path), help="Ground truth. Default: the run's own.")
@click.option("--subset", help=f"Videos to judge. Default: the run's, or {_DEFAULT.test_subset}.")
@click.option("--tiou", help=f"start:stop:step or a list. Default: the run's, or {_DEFAULT.tiou}.")
@json_option
def command(source: Path, annotations: Path | None, subset: str | None, tiou: str | None, as_json: bool) -> None:
    """Judge detections by the official ActivityNet definition of mAP."""
    if not source.exists():
        raise UsageError(f"there is nothing at {source}; name a run's folder or a detection file")
    if source.is_dir():
        results = evaluate_run(source, annotations, subset, tiou)
    elif annotations is None:
        raise UsageError(f"--annotations is needed to judge the file {source}")
    else:
        results = [evaluate_file(source, annotations, subset or _DEFAULT.test_subset, tiou or _DEFAULT.tiou)]
    for note in dict.fromkeys(note for result in results for note in result.notes):
        click.echo(note, err=True)
    if as_json:
        print_json(results[0].to_json() if len(results) == 1 else {"mAP": over_seeds(results)})
        return
    rows = {"mAP": {tiou: row["mean"] for tiou, row in over_seeds(results).items()}}
    if len(results) == 1:
        rows |= results[0].to_json()["ap"]
    click.echo(map_table("percent", rows))
    click.echo(f"average {100 * sum(rows['mAP'].values()) / len(rows['mAP']):.2f}")
