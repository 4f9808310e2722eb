"""`wtal extract`."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    devices_option,
    jobs_option,
    json_option,
    print_json,
    workspace_option,
)
from wtal.commands._near import Choice
from wtal.commands._types import Name, Seconds
from wtal.data.files import write_atomic
from wtal.data.video_ids import readable
from wtal.errors import ConfigError, OverrideError, UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.known import require_known
from wtal.extractors.flow import FLOWS
from wtal.extractors.readers import READERS
from wtal.pipeline.devices import pick_device
from wtal.pipeline.extraction.extract import ExtractResult, extract_all
from wtal.pipeline.extraction.machine import Machine, Spreading
from wtal.pipeline.extraction.plan import plan, plan_lines
from wtal.pipeline.workspace import Workspace

Function = Callable[..., Any]


def setting_option(name: str, names: Sequence[str] = (), metavar: str | None = None) -> Callable[[Function], Function]:
    """Return the option for a setting of `ExtractConfig`, with its default, its choices and its description."""
    field = ExtractConfig.model_fields[name]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    text = f"{field.description} Choices: {', '.join(names)}." if names else field.description
    type_ = Choice(choices) if choices else Name(lambda: names) if names else None
    return click.option(
        f"--{name}",
        type=type_,
        default=field.default,
        show_default=bool(field.default),
        metavar=metavar,
        help=text,
    )


@click.command("extract", cls=Command, resumes=True, short_help="Extract snippet features of videos into a store.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--backbone",
    "backbones",
    type=Name(BACKBONES.names),
    multiple=True,
    default=(ExtractConfig().backbone,),
    show_default=True,
    metavar="NAME[:VARIANT]",
    help=f"Backbone: {', '.join(BACKBONES.names())}; may be repeated: one pass then fills one store per backbone.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[BACKBONE/][STREAM=]PATH|NAME|random:SEED",
    help="Checkpoint for one stream, or for all; may be repeated. Default: the backbone's published one.",
)
@setting_option("crops")
@click.option(
    "--streams",
    type=Name(lambda: ("rgb", "flow")),
    default="",
    metavar="rgb,flow",
    help=ExtractConfig.model_fields["streams"].description,
)
@setting_option("flow", FLOWS.names(), metavar="NAME[:IMPLEMENTATION]")
@setting_option("reader", READERS.names())
@setting_option("fps")
@setting_option("stride")
@setting_option("tail")
@setting_option("zero")
@setting_option("dtype")
@setting_option("runtime")
@setting_option("precision")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the store. Default: one in the workspace.")
@jobs_option("Number of processes that share the videos")
@click.option(
    "--decoders",
    type=click.IntRange(0, 1024),
    metavar="N",
    default=Machine.decoders,
    help="Number of videos in progress in this process. Default: one; with a GPU, half the number of cores.",
)
@click.option(
    "--engine",
    type=Choice(get_args(Spreading)),
    default=Machine.engine,
    show_default=True,
    help="Machines that run the processes: this one (loky), or those of an existing dask or ray cluster.",
)
@click.option(
    "--cluster",
    default=Machine.cluster,
    metavar="ADDRESS",
    help="Address of the dask scheduler or ray head node; auto finds a local ray.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the timing of each stage to this JSON file.",
)
@click.option(
    "--time-limit",
    type=Seconds(min_open=True),
    default=Machine.time_limit,
    show_default=True,
    metavar="SECONDS",
    help="Stop a reader that yields no frame for this long, and record the video as failed.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan and its estimated time, from a trial of ten seconds; extract nothing.",
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
    """Extract snippet features of videos into one store per backbone, and print the paths of the stores.

    Folders are searched for videos. Videos that a store already holds are skipped; an interrupted call continues where
    it stopped. Exits with 3 if some videos failed; failures.json in the store lists the reasons.
    """
    chosen = {**values, "streams": tuple(filter(None, streams.split(",")))}
    configs = _configs(chosen, backbones)
    machine = Machine(jobs, pick_device(device, several=True), time_limit, decoders, engine, cluster)
    if profile and (dry_run or not os.access(profile.absolute().parent, os.W_OK)):
        why = (
            "it has no effect with --dry-run; leave one of them out"
            if dry_run
            else f"{profile.absolute().parent} cannot be written to"
        )
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


def _configs(chosen: Mapping[str, object], backbones: Sequence[str]) -> list[ExtractConfig]:
    try:
        configs = [ExtractConfig.parse({**chosen, "backbone": name}) for name in backbones]
        for config in configs:
            require_known(config)
        return configs
    except ConfigError as error:
        raise OverrideError(f"--{str(error).removeprefix('extract.')}") from None


def finish(*results: ExtractResult) -> None:
    """Report oddities by kind; if a store lacks videos, report the failures by store and exit with 3."""
    for line in dict.fromkeys(line for result in results for line in result.sentences()):
        click.echo(readable(line), err=True)
    failed = [result for result in results if result.failures]
    for result in failed:
        count, path = len(result.failures), result.store / "failures.json"
        click.echo(f"{count} of {len(result.videos)} videos failed; {path}", err=True)
    if failed:
        sys.exit(FINISHED_WITH_FAILURES)
