"""Frames per second, decoded from an H.264 file and scaled to 256 pixels on the short side, by reader.

The name of a reader by itself denotes the work of extraction in one process: reading headers, decoding, resampling to
25 frames per second by timestamps, and scaling. `isolated` is the same work through the reader process that extraction
uses, including its pipe. `alone` is the plain loop from the library's documentation, without timestamps, checks or
resampling, but with pictures scaled by the same call: the ratio of the two is the cost of our layer. `processor time`
is that of the same calls, summed over all their threads; this is a ratio of times, so lower is better.
`decord alone scaling itself` leaves the scaling to decord. The videos have 25 frames per second, so no variant repeats
or drops a frame; every repetition opens the file again.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks._report import arguments, report
from benchmarks._scene import FPS, Image, moving_frames, write_h264
from benchmarks._turns import rates, rows, short, take_turns
from wtal.errors import VideoError
from wtal.extractors.decoding.frame_size import FrameSize, scale, scaled_size
from wtal.extractors.decoding.isolated import ReaderProcess
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import READERS, read

SIZES = ("320x240", "640x360", "1280x720", "1920x1080")
REFERENCE = "pyav"
_SIZE = FrameSize(short_side=256, enlarge=True)

Result = tuple[list[dict[str, Any]], dict[str, float]]
Count = Callable[[], int]


def main(argv: Sequence[str] | None = None) -> None:
    """Render one video per size, decode each in every way in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="sizes of the videos")
    parser.add_argument("--frames", type=int, default=150, help="frames per video")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; the ways take turns in each")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.sizes, options.frames, options.repeat)
    report("decode", *result, options.out)


def measure(folder: Path, sizes: Sequence[str], frames: int, repeat: int) -> Result:
    """Rows and ratios for videos of `sizes`, written into `folder`.

    Raises:
        VideoError: when a way of decoding does not yield all `frames`.
    """
    table: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with ReaderProcess() as process:
        for size in sizes:
            width, height = map(int, size.split("x"))
            path = write_h264(folder / f"{size}.mp4", moving_frames(frames, width, height), width, height)
            target = scaled_size(width, height, _SIZE)
            tasks = {name: partial(check, name, way, frames) for name, way in ways(path, target, process).items()}
            spent: dict[str, list[float]] = {name: [] for name in READERS.names() if name in tasks}
            metered = {name: partial(meter, tasks[name], seconds) for name, seconds in spent.items()}
            times = take_turns(tasks | metered, repeat)
            table += rows(size, times, frames, "frames_per_s")
            compared = compare(rates(times, frames)) | compare_processor_times(spent)
            ratios |= {f"{name}, {size}": value for name, value in compared.items()}
    return table, ratios


def meter(task: Callable[[], object], seconds: list[float]) -> None:
    """Run a task and append the processor seconds of this process's threads meanwhile."""
    start = time.process_time()
    task()
    seconds.append(time.process_time() - start)


def compare_processor_times(spent: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Processor seconds of each reader's rounds, the first of which warms up, against the reference's."""
    medians = {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}
    base = medians.pop(REFERENCE)
    return {f"{name} processor time / {REFERENCE}'s": short(value / base) for name, value in medians.items()}


def compare(speeds: Mapping[str, float]) -> dict[str, float]:
    """Ratios of every way to the reference in this process, and of every reader to its library alone."""
    pairs = [(name, REFERENCE) for name in speeds if name != REFERENCE]
    pairs += [(name, f"{name} alone") for name in speeds if f"{name} alone" in speeds]
    return {f"{name} / {base}": short(speeds[name] / speeds[base]) for name, base in pairs}


def ways(path: Path, target: tuple[int, int], process: ReaderProcess) -> dict[str, Count]:
    """Calls by name that decode the whole file and count frames; unusable readers are left out."""
    usable = [name for name in READERS.names() if READERS.load(name).why_not() is None]
    tasks: dict[str, Count] = {name: partial(in_process, path, name) for name in usable}
    tasks |= {f"{name} isolated": partial(isolated, path, name, process) for name in usable}
    tasks |= {f"{name} alone": partial(alone, path, target, ALONE[name]) for name in usable if name in ALONE}
    if "decord" in usable:
        tasks["decord alone scaling itself"] = partial(decord_scaling, path, target)
    return tasks


def check(name: str, way: Count, frames: int) -> None:
    """Run a way of decoding and refuse to time one that loses frames.

    Raises:
        VideoError: when it does not yield `frames` frames.
    """
    if (count := way()) != frames:
        raise VideoError(f"{name} gave {count} frames of a file that has {frames}: it cannot be compared")


def in_process(path: Path, reader: str) -> int:
    """Number of frames from our reader, resampled and scaled."""
    info = probe(path)
    target = scaled_size(info.width, info.height, _SIZE)
    return sum(1 for image in Sampler(read(info, reader), info, Fraction(FPS)) if scale(image, target).size)


def isolated(path: Path, reader: str, process: ReaderProcess) -> int:
    """Number of the same frames through the reader process."""
    with process.open(path, Fraction(FPS), _SIZE, reader) as video:
        return sum(len(chunk) for chunk in video)


def alone(path: Path, target: tuple[int, int], images: Callable[[Path], Iterator[Image]]) -> int:
    """Number of frames from a library's plain loop, scaled."""
    return sum(1 for image in images(path) if scale(image, target).size)


def pyav_images(path: Path) -> Iterator[Image]:
    """Yield frames in PyAV's plain loop."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def decord_images(path: Path) -> Iterator[Image]:
    """Yield frames in decord's plain loop."""
    import decord

    video = decord.VideoReader(str(path))
    for number in range(len(video)):
        yield video[number].asnumpy()


def opencv_images(path: Path) -> Iterator[Image]:
    """Yield frames in OpenCV's plain loop."""
    capture = cv2.VideoCapture(str(path))
    try:
        while (pair := capture.read())[0]:
            yield np.asarray(cv2.cvtColor(pair[1], cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def torchcodec_images(path: Path) -> Iterator[Image]:
    """The plain loop of torchcodec."""
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
    for number in range(len(video)):
        yield np.asarray(video[number].numpy(), np.uint8)


def decord_scaling(path: Path, target: tuple[int, int]) -> int:
    """Number of frames from decord's plain loop, scaled by decord."""
    import decord

    video = decord.VideoReader(str(path), width=target[0], height=target[1])
    return sum(1 for number in range(len(video)) if video[number].asnumpy().size)


ALONE: dict[str, Callable[[Path], Iterator[Image]]] = {
    "pyav": pyav_images,
    "decord": decord_images,
    "opencv": opencv_images,
    "torchcodec": torchcodec_images,
}


if __name__ == "__main__":
    main(sys.argv[1:])
