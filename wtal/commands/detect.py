"""`wtal detect`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from wtal.commands._console import (
    Command,
    ConsoleReporter,
    device_option,
    jobs_option,
    json_option,
    print_json,
    refuse_unless,
    workspace_option,
)
from wtal.commands._new_videos import finish_new, show_new, show_processed
from wtal.commands._settings import localize_set_option
from wtal.commands._types import InWorkspace, Seconds
from wtal.errors import UsageError
from wtal.pipeline.detect import detect, ids_in_subset, refuse_without_videos
from wtal.pipeline.devices import pick_device
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.spread import reading_ahead
from wtal.pipeline.new_videos.detect_new import detect_new
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.new_videos.open_model import open_model
from wtal.pipeline.new_videos.watch import Pace, Watch
from wtal.pipeline.runs import open_runs
from wtal.pipeline.workspace import Workspace


@click.command("detect", cls=Command, resumes=True, short_help="Detect actions with a trained head.")
@click.argument("run", required=False, type=InWorkspace("runs"), metavar="[RUN|MODEL.wtal]")
@click.argument("videos", nargs=-1, type=click.Path(path_type=Path), metavar="[VIDEO|FOLDER]...")
@click.option("--use-labels", is_flag=True, help="In labelled videos, look only for their own classes.")
@click.option(
    "--streams",
    metavar="NAME",
    help="Streams to localize on: fused, union or one stream; short for --set localize.streams=NAME.",
)
@click.option("--subset", metavar="NAME", help="Search only the videos of this subset of the run's annotations.")
@click.option(
    "--stage",
    type=click.IntRange(0),
    metavar="N",
    help="Use the parameters from the end of this stage of training, counted from 0.",
)
@click.option(
    "--watch", type=click.Path(path_type=Path), metavar="FOLDER", help="Watch a folder and search each new video."
)
@click.option(
    "--interval",
    type=Seconds(min_open=True),
    default=Pace.interval,
    show_default=True,
    metavar="SECONDS",
    help="Interval between two scans of the watched folder.",
)
@click.option(
    "--settle",
    type=Seconds(),
    default=Pace.settle,
    show_default=True,
    metavar="SECONDS",
    help="Time that a file must remain unchanged before it is read.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the detections in new videos. Default: a new one in the workspace.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[STREAM=]PATH|NAME",
    help="Weights for the features of new videos, as for `wtal extract`.",
)
@jobs_option("Number of new videos to process at once")
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
    """Detect actions in new videos, or in every video of a run's store, and print the path of the detections.

    RUN is a run or one of its seeds; by default, the newest finished run. Without videos, those of its store are
    searched, or with --subset only those of one subset. Class activations are kept, so localization with other settings
    (--set localize.KEY=VALUE) takes seconds.

    With videos, or folders of videos, RUN may also be a file written by `wtal pack`. Features of new videos are
    extracted once, exactly like those of the run, into a separate store; an interrupted call continues where it
    stopped. --watch does the same for every video that appears in a folder, until Ctrl-C. Exits with 3 if some videos
    failed; failures.json lists the reasons.
    """
    refuse_unless("--watch", watch is not None, "interval", "settle")
    settings = with_streams(assignments, streams)
    home = Workspace(workspace)
    if not videos and watch is None:
        refuse_without_videos(run, out, weights, jobs)
        files = detect_stored(run or home.newest_run(), settings, use_labels, subset, stage, device)
        print_json({"detections": [str(file) for file in files]}) if as_json else click.echo("\n".join(map(str, files)))
        return
    if use_labels or subset is not None or stage is not None:
        raise UsageError(
            "--use-labels, --subset and --stage apply only to the videos of the run's own store; leave them out"
        )
    if videos and watch is not None:
        raise UsageError("--watch FOLDER takes all videos from the folder; leave the others out")
    with reading_ahead(jobs):
        model = open_model(run or home.newest_run())
        detector = Detector(model, Machine(jobs, pick_device(device)), weights, settings)
        results = detect_new(detector, videos, home, out, ConsoleReporter()) if watch is None else None
    if results is not None:
        print_json(results.to_json()) if as_json else show_new(results)
        finish_new(results)
    elif watch is not None:
        keep_watch(Watch(detector, watch, home, out, Pace(interval, settle), ConsoleReporter()), as_json)


def detect_stored(
    folder: Path,
    settings: tuple[str, ...],
    use_labels: bool,
    subset: str | None,
    stage: int | None,
    device: str,
) -> list[Path]:
    """Detect in the videos of a run's store, with each seed; return the detection files."""
    runs = open_runs(folder)
    reporter, chosen = ConsoleReporter(), pick_device(device)
    return [
        detect(
            run,
            run.localize(settings),
            use_labels,
            None if subset is None else ids_in_subset(run, subset),
            chosen,
            reporter,
            stage,
        )
        for run in runs
    ]


def keep_watch(watch: Watch, as_json: bool) -> None:
    """Watch until the process is stopped, printing each video's detections as they are ready."""
    reporter = ConsoleReporter()
    with watch.alone():
        reporter.say(f"watching {watch.folder}; detections in {watch.out}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt), _termination_as_interrupt():
            watch.run(lambda name, file: show_processed(name, file, as_json))
        results = watch.results()
        reporter.say(f"stopped; {len(results.results)} videos are in {results.file}")
    finish_new(results)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Make SIGTERM end the block like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def with_streams(assignments: tuple[str, ...], streams: str | None) -> tuple[str, ...]:
    """Return overrides of the localization, including the one that `--streams` stands for."""
    return assignments if streams is None else (*assignments, f'localize.streams="{streams}"')
