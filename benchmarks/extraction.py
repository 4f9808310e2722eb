"""Extraction of a folder of videos with `motion`: the default compared with other ways of distributing the work.

`default` is `wtal extract` with its defaults, in one process; `two videos in flight` is the same with two decoders.
`one stage at a time` decodes each video completely, then computes all of its flow, then the features of each stream,
with the same stages and threads, and keeps the intermediate results in memory. `busy / wall` is the stages' busy time
in `default`, divided by the elapsed time. `jobs 1` and `jobs 2` are the command with one and two processes, including
its start-up. `older` is the command from another checkout (`--older FOLDER`, run by this interpreter). Without
`--videos`, a small collection is rendered. `peak` is the memory used for one long video, including the reader process,
in excess of that of an idle process with the same imports; `slope` is its growth per minute of video, from a tenth of
that length to the full length.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._memory import followed
from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames
from benchmarks._turns import short, take_turns
from benchmarks._video_flow import flows_of
from wtal.extractors.decoding.isolated import ReaderProcess
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extractor import FLOW, Extractor, ExtractorSpec
from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.video_pass import StreamFeatures
from wtal.extractors.execution.worker_stage import Stage
from wtal.extractors.flow import create_flow
from wtal.pipeline.extraction.extract import extract_all
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.videos import find_videos
from wtal.pipeline.workspace import Workspace

BACKBONE = "motion"
"""Backbone that all versions have, also those for `--older`."""
_HERE = Path(__file__).parents[1]
_LONG = 160, 120
_IDLE = "import torch, cv2, av, time, wtal.extractors.execution.extraction_line; time.sleep(2)"


def main(argv: Sequence[str] | None = None) -> None:
    """Time all ways in turns, each with an empty workspace."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, help="folder of videos")
    parser.add_argument("--rendered", type=int, default=6, help="videos to render without --videos")
    parser.add_argument("--seconds", type=float, default=12, help="length of each rendered video")
    parser.add_argument("--older", type=Path, help="checkout of another version")
    parser.add_argument(
        "--long", type=float, default=0, help="minutes of an additional rendered video, to measure memory"
    )
    parser.add_argument("--name", default="", help="name of the collection in --videos, for the table")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        videos = options.videos or render_all(workspace / "videos", options.rendered, options.seconds)
        rows, ratios = compare(videos, workspace, options.older, options.repeat, options.name)
        if options.long:
            rows += growth(workspace, options.long)
    report("extraction", rows, ratios, options.out)


def compare(
    videos: Path, folder: Path, older: Path | None, repeat: int, name: str = ""
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of seconds, and their ratios."""
    profiles: list[float] = []
    tasks: dict[str, Callable[[], object]] = {
        "default": partial(extraction, videos, folder, 0, profiles),
        "two videos in flight": partial(extraction, videos, folder, 2, []),
        "one stage at a time": partial(one_stage_at_a_time, videos),
        "jobs 1": partial(command, videos, folder, ["--jobs", "1"]),
        "jobs 2": partial(command, videos, folder, ["--jobs", "2"]),
    }
    if older:
        tasks["older"] = partial(command, videos, folder, [], older)
    times = take_turns(tasks, repeat)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    size = f"{name}, {len(find_videos([videos]))} videos" if name else f"{len(find_videos([videos]))} videos"
    rows = [{"task": task, "size": size, "s": short(value), "unit": "s"} for task, value in seconds.items()]
    ratios = {
        "one stage at a time / default": seconds["one stage at a time"] / seconds["default"],
        "two videos in flight / default": seconds["two videos in flight"] / seconds["default"],
        "busy / wall": statistics.median(profiles),
        "jobs 1 / jobs 2": seconds["jobs 1"] / seconds["jobs 2"],
    }
    if older:
        ratios["older / jobs 1"] = seconds["older"] / seconds["jobs 1"]
    return rows, {name: short(value) for name, value in ratios.items()}


def extraction(videos: Path, folder: Path, decoders: int, profiles: list[float]) -> None:
    """Extract all videos into a new store; append the stages' busy time over the elapsed time to `profiles`."""
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        machine = Machine(decoders=decoders)
        profile = extract_all(
            [videos], [ExtractConfig(backbone=BACKBONE)], Workspace(Path(workspace)), machine=machine
        )[0].profile
    profiles.append(profile.busy / profile.seconds)


def one_stage_at_a_time(videos: Path) -> None:
    """Compute the same features; each stage begins when the previous one has ended."""
    extractor = Extractor(ExtractorSpec(ExtractConfig(backbone=BACKBONE)))
    method, threads, times = create_flow(str(extractor.flows[0].name)), os.cpu_count() or 1, TimeTable()
    with ReaderProcess() as process:
        for video in find_videos([videos]):
            with extractor.source.open(process, video.path) as opened:
                frames = np.concatenate(list(opened))
            inputs = {"rgb": frames, FLOW: flows_of(frames, method, threads)}
            for stream, job in extractor.jobs().items():
                with Stage(stream, "snippets", job.workers, times, begin=one_thread) as stage:
                    features = StreamFeatures(stage, job)
                    features.push(inputs[stream])
                    features.end()
                    features.result()


def one_thread() -> None:
    """Limit torch to one thread in the calling thread, as extraction does for clips in parallel."""
    torch.get_num_threads()
    torch.set_num_threads(1)


def command(videos: Path, folder: Path, options: Sequence[str], checkout: Path | None = None) -> None:
    """Run `wtal extract` of this version or of another checkout."""
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        call = [
            sys.executable,
            "-P",
            "-m",
            "wtal",
            "extract",
            str(videos),
            "--backbone",
            BACKBONE,
            "--workspace",
            workspace,
            *options,
        ]
        environment = os.environ | {"PYTHONPATH": str((checkout or _HERE).resolve())}
        subprocess.run(call, check=True, capture_output=True, env=environment)


def growth(folder: Path, minutes: float) -> list[dict[str, Any]]:
    """Rows of the peak for a video of `minutes` minutes, and of its growth per minute from a tenth of that length."""
    idle = max(used for _, used in followed([sys.executable, "-c", _IDLE]))
    size, parts = "x".join(map(str, _LONG)), (minutes / 10, minutes)
    peaks = [memory(render(folder / f"{part:g}.mp4", part * 60, _LONG), folder) - idle for part in parts]
    slope = (peaks[1] - peaks[0]) / (0.9 * minutes)
    return [
        {"task": f"peak, {minutes:g} minutes", "size": size, "s": round(peaks[1]), "unit": "MB"},
        {"task": f"slope, {minutes:g} minutes", "size": size, "s": round(slope, 2), "unit": "MB / minute"},
    ]


def memory(video: Path, folder: Path) -> float:
    """Peak memory in MB of the extraction of one video, all of its processes together."""
    call = [
        sys.executable,
        "-m",
        "wtal",
        "extract",
        str(video),
        "--backbone",
        BACKBONE,
        "--workspace",
        str(folder / "memory"),
    ]
    return max(used for _, used in followed(call))


def render_all(folder: Path, count: int, seconds: float) -> Path:
    """Render `count` videos into a folder and return it."""
    folder.mkdir()
    for number in range(count):
        render(folder / f"video-{number}.mp4", seconds)
    return folder


def render(path: Path, seconds: float, size: tuple[int, int] = (320, 240)) -> Path:
    """Render a video of 25 frames per second whose motion repeats after 200 frames."""
    import av

    pictures = list(moving_frames(200, *size))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for number in range(round(25 * seconds)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pictures[number % len(pictures)])):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
