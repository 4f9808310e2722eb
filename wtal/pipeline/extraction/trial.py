"""Measure the stages of extraction on this machine for a few seconds, and estimate the time for other videos.

A trial keeps as many videos in flight as the real call, and stops when its time is up. The rate of a stage is its busy
seconds per unit and, where relevant, per pixel; the number of stages busy at a time converts their work into elapsed
time. Unfinished work therefore counts as far as it got, and a video counts by the size of its frames, not by the sizes
that happened to be tried.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.data.grid import SnippetGrid
from wtal.errors import VideoError

if TYPE_CHECKING:
    from wtal.extractors.execution.extraction_line import ExtractionLine
    from wtal.extractors.execution.extractor import Extractor

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class SizedFile:
    """A video file, and the sides of its frames in pixels."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Rates:
    """`work` is the seconds of each stage per unit of its `load`; `busy_stages`, how many stages work at a time."""

    work: dict[str, float]
    busy_stages: float

    def seconds(self, load: Mapping[str, float]) -> float:
        """Return the elapsed seconds until all stages have finished this load."""
        return sum(self.work.get(stage, 0) * amount for stage, amount in load.items()) / self.busy_stages


def load(extractors: "Sequence[Extractor]", file: SizedFile, frames: int) -> dict[str, float]:
    """Return the load of each stage for `frames` frames of a video: its units, times pixels where size matters."""
    from wtal.extractors.execution.extraction_line import DECODE, FLOWS
    from wtal.extractors.execution.video_pass import COLOUR

    flows = {str(extractor.flow.identity) for extractor in extractors if extractor.flow}
    units = Counter({DECODE: frames, COLOUR: len(flows) * frames, FLOWS: len(flows) * frames})
    for extractor in extractors:
        names = map(extractor.stage_name, extractor.backbones)
        units.update(dict.fromkeys(names, grid(extractor, frames).num_snippets))
    return {stage: units[stage] * size for stage, size in _sizes(extractors, file).items()}


def _sizes(extractors: "Sequence[Extractor]", file: SizedFile) -> dict[str, int]:
    """Return the size of a unit of each stage: pixels of the file, scaled ones after the reader, or 1 for crops."""
    from wtal.extractors.decoding.frame_size import scaled_size
    from wtal.extractors.execution.extraction_line import DECODE, FLOWS
    from wtal.extractors.execution.video_pass import COLOUR

    width, height = scaled_size(file.width, file.height, extractors[0].size)
    sizes = {DECODE: file.width * file.height, COLOUR: width * height, FLOWS: width * height}
    for extractor in extractors:
        for stream, backbone in extractor.backbones.items():
            sizes[extractor.stage_name(stream)] = 1 if backbone.crop else width * height
    return sizes


def grid(extractor: "Extractor", frames: int) -> SnippetGrid:
    """Return the clock of a video of `frames` frames."""
    return SnippetGrid(extractor.rate, frames, Fraction(extractor.stride), extractor.span, extractor.config.tail)


def measure(
    extractors: "Sequence[Extractor]", sample: Sequence[SizedFile], decoders: int, seconds: float
) -> Rates | None:
    """Try extractors that use the same frames on videos of the sample, in turn, for about `seconds` seconds in all.

    Two rounds of one clip per backbone come first, regardless of their duration: one to warm up, as compilation and
    loading on first use do not count, one for stages that the remaining time is too short for. None if nothing can be
    read.
    """
    start = time.perf_counter()
    _, first = (_try(extractors, sample[0], decoders, _first_clips) for _ in range(2))
    trials: list[_Trial] = []
    for number, file in enumerate(sample):
        remaining = start + seconds - time.perf_counter()
        if remaining > 0:
            trials.append(_try(extractors, file, decoders, _again_and_again, remaining / (len(sample) - number)))
    return _rates(first, trials)


@dataclass(frozen=True)
class _Trial:
    """Result of one trial: busy seconds and load by stage, and the seconds elapsed."""

    worked: Counter[str]
    done: Counter[str]
    seconds: float


def _rates(first: _Trial, others: Sequence[_Trial]) -> Rates | None:
    seconds, worked, done = 0.0, Counter[str](), Counter[str]()
    for trial in [trial for trial in others if trial.done] or [first]:
        seconds += trial.seconds
        worked.update(trial.worked)
        done.update(trial.done)
    if not done:
        return None
    work = {stage: first.worked[stage] / first.done[stage] for stage in first.done}
    return Rates(work | {stage: worked[stage] / done[stage] for stage in done}, worked.total() / seconds)


def _try(
    extractors: "Sequence[Extractor]",
    file: SizedFile,
    decoders: int,
    extract: "Callable[[ExtractionLine, Path], None]",
    seconds: float = math.inf,
) -> _Trial:
    """Keep `decoders` videos in flight until they end, or until `seconds` have passed since the first frames."""
    from wtal.extractors.execution.extraction_line import ExtractionLine

    with ExtractionLine(extractors) as line, ThreadPoolExecutor(decoders) as pool:
        running = [pool.submit(extract, line, file.path) for _ in range(decoders)]
        start = None
        while wait(running, _POLL_SECONDS).not_done:
            start = start or (time.perf_counter() if line.times.stages() else None)
            if start and time.perf_counter() - start > seconds:
                break
        line.close()
    sizes, stages = _sizes(extractors, file), line.times.stages()
    return _Trial(
        Counter({stage: spent.seconds for stage, spent in stages.items()}),
        Counter({stage: spent.units * sizes[stage] for stage, spent in stages.items() if spent.units}),
        line.times.elapsed,
    )


def _first_clips(line: "ExtractionLine", path: Path) -> None:
    """Extract one snippet with each backbone."""
    with suppress(VideoError):
        line.rehearse(path, max(extractor.stride for extractor in line.extractors))


def _again_and_again(line: "ExtractionLine", path: Path) -> None:
    """Extract repeatedly until the line is closed, or the file proves unreadable."""
    with suppress(VideoError, CancelledError):
        while True:
            line.run(path)
