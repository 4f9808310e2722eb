"""`wtal detect`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from wtal.commands._console import (
    JOBS,
    SECONDS,
    Command,
    ConsoleReporter,
    Number,
    device_option,
    json_option,
    localize_set_option,
    pick_device,
    print_json,
    workspace_option,
)
from wtal.commands._new_videos import finish_new, show_new, show_seen
from wtal.errors import UsageError
from wtal.pipeline.detect import detect, ids_in_subset
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.spread import reading_ahead
from wtal.pipeline.new_videos.detect_new import detect_new
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.new_videos.open_model import open_model
from wtal.pipeline.new_videos.watch import Pace, Watch
from wtal.pipeline.runs import open_runs
from wtal.pipeline.workspace import Workspace


@click.command("detect", cls=Command, short_help="A trained head -> class activations -> detections.")
@click.argument("run", required=False, type=click.Path(path_type=Path), metavar="[RUN|MODEL.wtal]")
@click.argument("videos", nargs=-1, type=click.Path(path_type=Path), metavar="[VIDEO|FOLDER]...")
@click.option("--use-labels", is_flag=True, help="Look in a labelled video only for its own classes.")
@click.option("--streams", metavar="NAME", help="fused, union or a stream: short for --set localize.streams=NAME.")
@click.option("--subset", metavar="NAME", help="Of the videos of the run's store, only those of a subset.")
@click.option("--stage", type=click.IntRange(0), help="Parameters at the end of a stage of training, from 0.")
@click.option("--watch", type=click.Path(path_type=Path), metavar="FOLDER", help="Detect in each video that comes.")
@click.option(
    "--interval",
    type=Number(0, SECONDS, min_open=True),
    default=Pace.interval,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the watched folder.",
)
@click.option(
    "--settle",
    type=Number(0, SECONDS),
    default=Pace.settle,
    show_default=True,
    metavar="SECONDS",
    help="Time for which a file of the watched folder must not have changed.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of new videos' detections. Default: a new one.")
@click.option("--weights", multiple=True, metavar="[STREAM=]PATH|NAME", help="As for extract; for new videos.")
@click.option("--jobs", type=JOBS, default=1, show_default=True, help="New videos at once.")
@localize_set_option
@device_option
@workspace_option
@json_option
def command(
    run: Path | None,
    videos: tuple[Path, ...],
    use_labels: bool,
    streams: str | None,
    subset: str | None,
    stage: int | None,
    watch: Path | None,
    interval: float,
    settle: float,
    out: Path | None,
    weights: tuple[str, ...],
    jobs: int,
    assignments: tuple[str, ...],
    device: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Detect in new videos, or in every video of a run's store, and print where the detections are.

    RUN is a run or one of its seeds; without it, the newest finished one. Without videos, those of its store are
    searched, with --subset those of a subset of its annotations alone. Class activations are kept, and localization
    can be done again in seconds with --set localize.KEY=VALUE.

    With videos, or folders of them, RUN may be a file that `wtal pack` wrote. Their features are made as those of the
    run were, once, in a store of their own; an interrupted call continues where it was. --watch does so for each video
    that comes into a folder, until Ctrl-C. Exits with 3 when some videos failed; failures.json says why.
    """
    settings = with_streams(assignments, streams)
    home = Workspace(workspace)
    if not videos and watch is None:
        _refuse_without_videos(run, out, weights, jobs)
        seeds = open_runs(run or home.newest_run())
        reporter, chosen = ConsoleReporter(), pick_device(device)
        files = [
            detect(
                seed,
                seed.localize(settings),
                use_labels,
                None if subset is None else ids_in_subset(seed, subset),
                chosen,
                reporter,
                stage,
            )
            for seed in seeds
        ]
        print_json({"detections": [str(file) for file in files]}) if as_json else click.echo("\n".join(map(str, files)))
        return
    if use_labels or subset is not None or stage is not None:
        raise UsageError("--use-labels, --subset and --stage are for the videos of the run's own store; leave them out")
    if videos and watch is not None:
        raise UsageError("--watch FOLDER finds its videos itself; leave the others out")
    with reading_ahead(jobs):
        model = open_model(run or home.newest_run())
        detector = Detector(model, Machine(jobs, pick_device(device)), weights, settings)
        made = detect_new(detector, videos, home, out, ConsoleReporter()) if watch is None else None
    if made is not None:
        print_json(made.to_json()) if as_json else show_new(made)
        finish_new(made)
        return
    assert watch is not None
    keep_watch(Watch(detector, watch, home, out, Pace(interval, settle), ConsoleReporter()), as_json)


def _refuse_without_videos(run: Path | None, out: Path | None, weights: tuple[str, ...], jobs: int) -> None:
    if run is not None and run.is_file():
        raise UsageError(f"{run} is a file: name a run, or a packed model and the videos to detect in")
    if out is not None or weights or jobs > 1:
        raise UsageError("--out, --weights and --jobs are for new videos; name some behind the run")


def keep_watch(watch: Watch, as_json: bool) -> None:
    """Watch until the process is told to end, printing each video's detections as they come."""
    reporter = ConsoleReporter()
    with watch.alone():
        reporter.say(f"watching {watch.folder}; detections in {watch.out}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt), _termination_as_interrupt():
            watch.run(lambda name, seen: show_seen(name, seen, as_json))
        made = watch.results()
        reporter.say(f"stopped; {len(made.results)} videos are in {made.file}")
    finish_new(made)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def with_streams(assignments: tuple[str, ...], streams: str | None) -> tuple[str, ...]:
    """Return overrides of localization, and what `--streams` is short for."""
    return assignments if streams is None else (*assignments, f'localize.streams="{streams}"')
