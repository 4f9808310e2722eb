"""Frames per second of the weight-free backbones `motion-pyramid` and `motion`, from a video file to features.

Each runs as in `wtal extract` with its defaults: decoding, flow and both streams in one process and its reader process.
For each size, they take turns on the same rendered video, in which everything moves. `frames / cpu s` and the ratio
`by the processor's clock` count the processor time of this process plus the decoding time reported by the reader
process; other work on the machine affects them less. A warm-up round keeps compilation and the start of processes out
of the measurement.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames, write_h264
from benchmarks._turns import rates, rows, short, take_turns
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extraction_line import ExtractionLine
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec

SIZES = ("160x120", "320x240", "1280x720")
BACKBONES = ("motion", "motion-pyramid")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the backbones in turns on one video of each size, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="frames of the videos")
    parser.add_argument("--frames", type=int, default=300, help="frames of each video")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the backbones take turns in each")
    options = parser.parse_args(argv)
    table: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            width, height = map(int, size.split("x"))
            frames = moving_frames(options.frames, width, height)
            video = write_h264(Path(folder) / f"{size}.mp4", frames, width, height)
            more, ratio = compare(video, size, options.frames, options.repeat)
            table, ratios = table + more, ratios | ratio
    report("weightless", table, ratios, options.out)


def compare(video: Path, size: str, frames: int, repeat: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of all backbones on one video."""
    lines = {name: ExtractionLine([Extractor(ExtractorSpec(ExtractConfig(backbone=name)))]) for name in BACKBONES}
    spent: dict[str, list[float]] = {name: [] for name in BACKBONES}
    try:
        tasks = {name: partial(extract, line, video, spent[name]) for name, line in lines.items()}
        times = take_turns(tasks, repeat)
    finally:
        for line in lines.values():
            line.close()
    speeds = rates(times, frames)
    processor = {name: frames / statistics.median(values[1:]) for name, values in spent.items()}
    table = [
        row | {"frames_per_cpu_s": short(processor[row["task"]])} for row in rows(size, times, frames, "frames_per_s")
    ]
    old, new = BACKBONES
    ratios = {
        f"{new} / {old}, {size}": short(speeds[new] / speeds[old]),
        f"{new} / {old} by the processor's clock, {size}": short(processor[new] / processor[old]),
    }
    return table, ratios


def extract(line: ExtractionLine, video: Path, spent: list[float]) -> None:
    """Extract all features of a video; append the seconds of processor time and decoding to `spent`."""
    before = time.process_time()
    decoding = line.times.stages().get("decode and size")
    result = line.run(video)[0]
    if isinstance(result, Exception):
        raise result
    decoded = line.times.stages()["decode and size"].seconds - (decoding.seconds if decoding else 0)
    spent.append(time.process_time() - before + decoded)


if __name__ == "__main__":
    main(sys.argv[1:])
