"""`wtal tune`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    localize_set_option,
    print_json,
    workspace_option,
)
from wtal.pipeline.devices import pick_device
from wtal.pipeline.runs import TUNED
from wtal.pipeline.tune import SPACE, Method, Tuned, parse_space, tune
from wtal.pipeline.workspace import Workspace


@click.command("tune", cls=Command, short_help="A run's localization, searched on videos that are not reported.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--subset", default="", help="Videos whose segments choose. Default: what selected the step, or trained.")
@click.option(
    "--over",
    multiple=True,
    metavar="KEY[=V1,V2]",
    help=f"A key of [localize] and what to try; may be repeated. Default: {', '.join(SPACE)}.",
)
@click.option(
    "--method",
    type=click.Choice(["coordinate", "grid"]),
    default="coordinate",
    show_default=True,
    help="Method of search.",
)
@click.option("--tiou", default="", help="mAP is the mean over these: start:stop:step or a list. Default: the run's.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Ground truth. Default: the run's own.")
@click.option("--out", type=click.Path(path_type=Path), help="The preset to write. Default: tuned-DIGEST.toml in RUN.")
@localize_set_option
@device_option
@workspace_option
@json_option
def command(
    run: Path | None,
    subset: str,
    over: tuple[str, ...],
    method: Method,
    tiou: str,
    annotations: Path | None,
    out: Path | None,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Search how a trained head's activations become detections, and write the best as a preset.

    RUN is a run (all its seeds count) or one of its seeds; without it, the newest finished one. Segments of a subset
    choose, never those of the reported one. Use what is found with --set localize.preset=FILE.
    """
    tuned = tune(
        run or Workspace(workspace).newest_run(),
        parse_space(over),
        method,
        subset,
        annotations,
        tiou,
        assignments,
        out,
        pick_device(device),
        ConsoleReporter(),
    )
    if as_json:
        print_json(_json(tuned))
        return
    for key, value in tuned.best.items():
        click.echo(f"{key:<16} {tuned.before[key]} -> {value}")
    click.echo(
        f"mAP {100 * tuned.score_before:.2f} -> {100 * tuned.score:.2f} percent on {tuned.videos} videos of "
        f"{tuned.subset}, {tuned.tried} settings tried\n{TUNED}\n{tuned.file}"
    )


def _json(tuned: Tuned) -> dict[str, object]:
    """Return the outcome as JSON types, in fractions."""
    return {
        "file": str(tuned.file),
        "subset": tuned.subset,
        "videos": tuned.videos,
        "tried": tuned.tried,
        "before": tuned.before,
        "best": tuned.best,
        "mAP_before": tuned.score_before,
        "mAP": tuned.score,
        "tuned_with_segments": True,
    }
