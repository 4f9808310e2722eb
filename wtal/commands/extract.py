"""`wtal extract`."""

import json
import os
import sys
from pathlib import Path
from typing import get_args

import click

from wtal.commands._console import (
    FINISHED_WITH_FAILURES,
    Command,
    ConsoleReporter,
    devices_option,
    json_option,
    pick_device,
    print_json,
    workspace_option,
)
from wtal.data.files import write_atomic
from wtal.errors import UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.flow import FLOWS
from wtal.extractors.readers import READERS
from wtal.pipeline.extraction.extract import ExtractResult, extract_all
from wtal.pipeline.extraction.plan import plan, words
from wtal.pipeline.extraction.spread import Engine, Machine
from wtal.pipeline.recipe import ExtractConfig
from wtal.pipeline.workspace import Workspace

_DEFAULT = ExtractConfig()


@click.command("extract", cls=Command, short_help="Videos -> snippet features in a store.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    default=(_DEFAULT.backbone,),
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
@click.option(
    "--crops", type=click.Choice([1, 10]), default=_DEFAULT.crops, show_default=True, help="Centre, or ten averaged."
)
@click.option("--streams", default="", metavar="rgb,flow", help="Streams to extract. Default: all of the backbone's.")
@click.option("--flow", default="", help=f"{', '.join(FLOWS.names())}; NAME:IMPLEMENTATION. Default: the backbone's.")
@click.option("--reader", default=_DEFAULT.reader, show_default=True, help=f"auto, {', '.join(READERS.names())}.")
@click.option("--fps", default=_DEFAULT.fps, show_default=True, help="Frame rate that videos are resampled to.")
@click.option("--stride", default=_DEFAULT.stride, help="Frames between snippets. Default: the backbone's.")
@click.option(
    "--tail",
    type=click.Choice(["pad", "drop"]),
    default=_DEFAULT.tail,
    show_default=True,
    help="Frames after the last full snippet: filled up, or dropped as in the papers.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default=_DEFAULT.dtype, show_default=True, help="Of features."
)
@click.option(
    "--runtime",
    type=click.Choice(["torch", "openvino"]),
    default=_DEFAULT.runtime,
    show_default=True,
    help="What runs a network: openvino is an extra, for CPUs.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default=_DEFAULT.precision,
    show_default=True,
    help="Of a network's arithmetic, by torch.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Store folder. Default: one in the workspace.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the videos.")
@click.option(
    "--decoders",
    type=click.IntRange(0),
    default=0,
    help="Videos in flight in a process. Default: two, with a GPU half the cores.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(Engine)),
    default=Machine.engine,
    show_default=True,
    help="Where processes run: on this machine, or on a cluster that exists.",
)
@click.option(
    "--cluster",
    default="",
    metavar="ADDRESS",
    help="Address of the dask scheduler or ray head; `auto` finds a local ray.",
)
@click.option("--profile", type=click.Path(path_type=Path), help="Write what each stage did to this JSON file.")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=Machine.time_limit,
    show_default=True,
    metavar="SECONDS",
    help="Stop a reader that yields no frame for this long, and record the video as failed.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what there is to do, and after ten seconds of trial how long it takes here."
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
    engine: Engine,
    cluster: str,
    profile: Path | None,
    time_limit: float,
    dry_run: bool,
    device: str,
    workspace: Path,
    as_json: bool,
    **values: object,
) -> None:
    """Decode, optical flow, snippet features: videos -> a store for each backbone, whose paths are printed.

    Folders are searched for videos. What the store holds already is left alone; an interrupted call goes on where it
    was. Exits with 3 when some videos failed; failures.json in the store says why.
    """
    chosen = {**values, "streams": tuple(filter(None, streams.split(",")))}
    configs = [ExtractConfig.parse({**chosen, "backbone": name}, "extract") for name in backbones]
    machine = Machine(jobs, pick_device(device, several=True), time_limit, decoders, engine, cluster)
    if profile and (dry_run or not os.access(profile.absolute().parent, os.W_OK)):
        why = "there is none with --dry-run" if dry_run else f"{profile.absolute().parent} cannot be written to"
        raise UsageError(f"--profile {profile}: {why}")
    if dry_run:
        planned = plan(paths, configs, Workspace(workspace), weights, out, machine, reporter=ConsoleReporter())
        print_json(planned.to_json()) if as_json else click.echo("\n".join(words(planned)))
        return
    results = extract_all(paths, configs, Workspace(workspace), weights, out, machine, ConsoleReporter())
    spent = results[0].profile
    if spent.stages:
        click.echo("\n".join(spent.lines()), err=True)
    if profile:
        write_atomic(profile, json.dumps(spent.to_json(), indent=2).encode())
    stores = [
        {"store": str(result.store), "videos": len(result.videos), "failures": result.failures} for result in results
    ]
    if as_json:
        print_json(stores[0] if len(stores) == 1 else {"stores": stores})
    else:
        for result in results:
            click.echo(result.store)
    finish(*results)


def finish(*results: ExtractResult) -> None:
    """Exit with 3, and say so, when videos failed."""
    failed = [result for result in results if result.failures]
    for result in failed:
        count = f"{len(result.failures)} of {len(result.videos)} videos failed"
        click.echo(f"{count}; {result.store / 'failures.json'}", err=True)
    if failed:
        sys.exit(FINISHED_WITH_FAILURES)
