"""`wtal extract`."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    JOBS,
    SECONDS,
    Command,
    ConsoleReporter,
    Number,
    devices_option,
    json_option,
    print_json,
    workspace_option,
)
from wtal.config import blamed
from wtal.data.files import write_atomic
from wtal.data.video_ids import readable
from wtal.errors import UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.flow import FLOWS
from wtal.extractors.readers import READERS
from wtal.pipeline.devices import pick_device
from wtal.pipeline.extraction.extract import ExtractResult, extract_all
from wtal.pipeline.extraction.machine import Machine, Spreading
from wtal.pipeline.extraction.plan import plan, plan_lines
from wtal.pipeline.workspace import Workspace

Function = Callable[..., Any]


def setting_option(name: str, names: Sequence[str] = (), metavar: str | None = None) -> Callable[[Function], Function]:
    """Return the option for a setting of `ExtractConfig`: its default, its choices and its text are the help."""
    field = ExtractConfig.model_fields[name]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    text = f"{field.description} {', '.join(names)}." if names else field.description
    return click.option(
        f"--{name}",
        type=click.Choice(choices) if choices else None,
        default=field.default,
        show_default=bool(field.default),
        metavar=metavar,
        help=text,
    )


@click.command("extract", cls=Command, short_help="Videos -> snippet features in a store.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    default=(ExtractConfig().backbone,),
    show_default=True,
    metavar="NAME[:VARIANT]",
    help=f"{', '.join(BACKBONES.names())}; repeated, one pass fills a store for each.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[BACKBONE/][STREAM=]PATH|NAME|random:SEED",
    help="Checkpoint of a stream, or of all; may be repeated. Default: the backbone's published one.",
)
@setting_option("crops")
@click.option("--streams", default="", metavar="rgb,flow", help=ExtractConfig.model_fields["streams"].description)
@setting_option("flow", FLOWS.names(), metavar="NAME[:IMPLEMENTATION]")
@setting_option("reader", READERS.names())
@setting_option("fps")
@setting_option("stride")
@setting_option("tail")
@setting_option("zero")
@setting_option("dtype")
@setting_option("runtime")
@setting_option("precision")
@click.option("--out", type=click.Path(path_type=Path), help="Store folder. Default: one in the workspace.")
@click.option("--jobs", type=JOBS, default=Machine.jobs, show_default=True, help="Processes that share the videos.")
@click.option(
    "--decoders",
    type=click.IntRange(0, 1024),
    default=Machine.decoders,
    help="Videos in flight in this process. Default: one; with a GPU half the number of cores.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(Spreading)),
    default=Machine.engine,
    show_default=True,
    help="Where processes run: on this machine, or on a cluster that exists.",
)
@click.option(
    "--cluster",
    default=Machine.cluster,
    metavar="ADDRESS",
    help="Address of the dask scheduler or ray head; auto finds a local ray.",
)
@click.option("--profile", type=click.Path(path_type=Path), help="Write the timing of each stage to this JSON file.")
@click.option(
    "--time-limit",
    type=Number(0, SECONDS, min_open=True),
    default=Machine.time_limit,
    show_default=True,
    metavar="SECONDS",
    help="Stop a reader that yields no frame for this long, and record the video as failed.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only print the plan, and the time it takes here by a trial of ten seconds."
)
@devices_option
@workspace_option
@json_option
def command(
    paths: tuple[Path, ...],
    backbones: tuple[str, ...],
    weights: tuple[str, ...],
    streams: str,
    out: Path | None,
    jobs: int,
    decoders: int,
    engine: Spreading,
    cluster: str,
    profile: Path | None,
    time_limit: float,
    dry_run: bool,
    device: str,
    workspace: Path,
    as_json: bool,
    **values: object,
) -> None:
    """Extract snippet features of videos into a store for each backbone, and print the paths of the stores.

    Folders are searched for videos. Videos that a store holds already are left alone; an interrupted call continues
    where it was. Exits with 3 when some videos failed; failures.json in the store says why.
    """
    chosen = {**values, "streams": tuple(filter(None, streams.split(",")))}
    with blamed(["extract"], ExtractConfig):
        configs = [ExtractConfig.parse({**chosen, "backbone": name}, "extract") for name in backbones]
    machine = Machine(jobs, pick_device(device, several=True), time_limit, decoders, engine, cluster)
    if profile and (dry_run or not os.access(profile.absolute().parent, os.W_OK)):
        why = "there is none with --dry-run" if dry_run else f"{profile.absolute().parent} cannot be written to"
        raise UsageError(f"--profile {profile}: {why}")
    if dry_run:
        planned = plan(paths, configs, Workspace(workspace), weights, out, machine, reporter=ConsoleReporter())
        print_json(planned.to_json()) if as_json else click.echo("\n".join(plan_lines(planned)))
        return
    results = extract_all(paths, configs, Workspace(workspace), weights, out, machine, ConsoleReporter())
    timing = results[0].profile
    if timing.stages:
        click.echo("\n".join(timing.lines()), err=True)
    if profile:
        write_atomic(profile, json.dumps(timing.to_json(), indent=2).encode())
    stores = [
        {"store": str(each.store), "videos": len(each.videos), "failures": each.failures, "oddities": each.oddities}
        for each in results
    ]
    if as_json:
        print_json(stores[0] if len(stores) == 1 else {"stores": stores})
    else:
        for result in results:
            click.echo(result.store)
    finish(*results)


def finish(*results: ExtractResult) -> None:
    """Say what was odd, a line for each kind; exit with 3, after a line for each store that lacks videos."""
    for line in dict.fromkeys(line for result in results for line in result.sentences()):
        click.echo(readable(line), err=True)
    failed = [result for result in results if result.failures]
    for result in failed:
        count, path = len(result.failures), result.store / "failures.json"
        click.echo(f"{count} of {len(result.videos)} videos failed; {path}", err=True)
    if failed:
        sys.exit(FINISHED_WITH_FAILURES)
