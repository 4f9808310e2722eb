"""`wtal tune`."""

from pathlib import Path

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    json_option,
    print_json,
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._settings import localize_set_option
from wtal.commands._types import InWorkspace
from wtal.pipeline.devices import pick_device
from wtal.pipeline.stamps import TUNED
from wtal.pipeline.tune import SPACE, Method, Tuned, parse_space, tune
from wtal.pipeline.workspace import Workspace


@click.command("tune", cls=Command, short_help="Tune a run's localization settings.")
@click.argument("run", required=False, type=InWorkspace("runs"))
@click.option(
    "--subset",
    default="",
    help="Subset whose segments decide. Default: the one that selected the step, or else the training subset.",
)
@click.option(
    "--over",
    multiple=True,
    metavar="KEY[=V1,V2]",
    help=f"Key of [localize] and the values to try; may be repeated. Default: {', '.join(SPACE)}.",
)
@click.option(
    "--method",
    type=Choice(["coordinate", "grid"]),
    default="coordinate",
    show_default=True,
    help="Search method.",
)
@click.option(
    "--tiou",
    default="",
    help="tIoU thresholds that mAP is averaged over: start:stop:step or a list. Default: the run's.",
)
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Ground truth. Default: the run's own annotations."
)
@click.option("--out", type=click.Path(path_type=Path), help="Preset file to write. Default: tuned-DIGEST.toml in RUN.")
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
    """Search for the best localization settings of a trained head, and write them as a preset.

    RUN is a run (with all its seeds) or one of its seeds; by default, the newest finished run. The settings are chosen
    on the segments of a subset that is not reported. Use the preset with --set localize.preset=FILE.
    """
    space = parse_space(over)
    tuned = tune(
        run or Workspace(workspace).newest_run(),
        space,
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
