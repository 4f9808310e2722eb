"""`wtal diagnose`."""

from pathlib import Path

import click

from wtal.cli._console import Command, ConsoleReporter, json_option, print_json
from wtal.errors import UsageError
from wtal.eval.characteristics import BUCKETS
from wtal.eval.protocols import PROTOCOLS
from wtal.pipeline.diagnose import Show, diagnose
from wtal.pipeline.figures import text_table
from wtal.pipeline.judgement import Question
from wtal.pipeline.recipe import EvaluateConfig

_DEFAULT = EvaluateConfig()


@click.command("diagnose", cls=Command, short_help="Detections and annotations -> a page of errors and their costs.")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|FILE")
@click.option("--annotations", type=click.Path(path_type=Path), help="Ground truth. Default: the run's own.")
@click.option("--subset", help=f"Videos to judge. Default: the run's, or {_DEFAULT.test_subset}.")
@click.option("--tiou", help=f"start:stop:step or a list. Default: the protocol's, the run's, or {_DEFAULT.tiou}.")
@click.option("--protocol", metavar="NAME", help=f"{', '.join(PROTOCOLS)}. Default: ActivityNet's rules.")
@click.option("--ambiguous", type=click.Path(path_type=Path), help="Ranges `video start end` that nobody can tell.")
@click.option("--at", type=float, metavar="TIOU", help="Threshold of most figures. Default: the nearest to 0.5.")
@click.option("--buckets", type=click.Choice(BUCKETS), help="Edges of XS to XL. Default: the protocol's collection.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder. Default: RUN/report, or FILE's name and -report.")
@click.option("--streams", metavar="NAME", help="Of a run: what `wtal detect --streams NAME` found.")
@click.option("--stage", type=click.IntRange(0), help="Of a run: what `wtal detect --stage N` found.")
@click.option("--videos", metavar="ID,ID,...", help="Of a run: videos to draw. Default: best, median and worst.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the embedded snippets.")
@click.option("--errors-only", is_flag=True, help="Of a run: no pictures of videos, features and pseudo labels.")
@json_option
def command(
    source: Path,
    annotations: Path | None,
    subset: str | None,
    tiou: str | None,
    protocol: str | None,
    ambiguous: Path | None,
    at: float | None,
    buckets: str | None,
    out: Path | None,
    streams: str | None,
    stage: int | None,
    videos: str | None,
    seed: int,
    errors_only: bool,
    as_json: bool,
) -> None:
    """Tell why detections score what they score, on a page of its own: index.html, and its pictures as PNG.

    False positives by kind and what each kind costs in mAP, how long, short, few and many annotations fare, what is
    missed, and the judge's curves. What stands on the page is in diagnosis.json too. Of a run also what its head sees:
    activations against annotations, failure cases, embedded snippets, pseudo labels; for these its features are read.
    """
    question = Question(annotations, subset, tiou, protocol, ambiguous, streams, stage)
    if errors_only and videos:
        raise UsageError("--videos is of the pictures that --errors-only leaves out")
    show = (
        None if errors_only else Show(tuple(part.strip() for part in (videos or "").split(",") if part.strip()), seed)
    )
    made = diagnose(source, question, at, buckets, out, show, ConsoleReporter())
    for note in made.figures.notes:
        click.echo(note, err=True)
    if as_json:
        print_json(made.value)
        return
    click.echo(text_table(made.figures))
    for stamp in made.stamps:
        click.echo(stamp)
    click.echo(made.page)
