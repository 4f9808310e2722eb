"""`wtal evaluate`."""

from pathlib import Path

import click

from wtal.cli._console import TUNED, Command, ConsoleReporter, json_option, map_table, print_json
from wtal.errors import UsageError
from wtal.pipeline.evaluate import evaluate_file, evaluate_seed, over_seeds, own_detections
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.workspace import read_run, seed_folders

_DEFAULT = EvaluateConfig()


@click.command("evaluate", cls=Command, short_help="Detections and annotations -> mAP.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|FILE")
@click.option("--annotations", type=click.Path(path_type=Path), help="Ground truth. Default: the run's own.")
@click.option("--subset", help=f"Videos to judge. Default: the run's, or {_DEFAULT.test_subset}.")
@click.option("--tiou", help=f"start:stop:step or a list. Default: the run's, or {_DEFAULT.tiou}.")
@click.option("--streams", metavar="NAME", help="Of a run: what `wtal detect --streams NAME` found.")
@click.option("--stage", type=click.IntRange(0), help="Of a run: what `wtal detect --stage N` found.")
@json_option
def command(
    source: Path,
    annotations: Path | None,
    subset: str | None,
    tiou: str | None,
    streams: str | None,
    stage: int | None,
    as_json: bool,
) -> None:
    """Judge detections by the official ActivityNet definition of mAP."""
    if not source.exists():
        raise UsageError(f"there is nothing at {source}; name a run's folder or a detection file")
    if source.is_dir():
        seeds = seed_folders(source)
        files = [own_detections(folder, streams, stage) for folder in seeds]
        pairs = zip(seeds, files, strict=True)
        results = [evaluate_seed(folder, file, annotations, subset, tiou) for folder, file in pairs]
        tuned = any(read_run(folder)["tuned_with_segments"] for folder in seeds)
    elif streams is not None or stage is not None:
        raise UsageError(f"--streams and --stage are of a run's folder, {source} is a file")
    elif annotations is None:
        raise UsageError(f"--annotations is needed to judge the file {source}")
    else:
        wanted = (subset or _DEFAULT.test_subset, tiou or _DEFAULT.tiou)
        results, tuned = [evaluate_file(source, annotations, *wanted, reporter=ConsoleReporter())], False
    for note in dict.fromkeys(note for result in results for note in result.notes):
        click.echo(note, err=True)
    if as_json:
        table = results[0].to_json() if len(results) == 1 else {"mAP": over_seeds(results)}
        print_json(table | ({"tuned_with_segments": True} if tuned else {}))
        return
    rows = {"mAP": {tiou: row["mean"] for tiou, row in over_seeds(results).items()}}
    if len(results) == 1:
        rows |= results[0].to_json()["ap"]
    click.echo(map_table("percent", rows))
    if tuned:
        click.echo(TUNED)
    click.echo(f"average {100 * sum(rows['mAP'].values()) / len(rows['mAP']):.2f}")
