"""What the stages of extraction take here, tried for a few seconds, and what that comes to for other videos.

A trial keeps as many videos in flight as there will be, and is called off when its time is over. What each stage was
at work for, by its units and, where it depends on them, pixels, is its rate; how many stages were at work at a time
turns their work into time that goes by. So work that was begun counts as far as it came, and a video counts by its
pictures' size, not by the sizes that happened to be tried.
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
    from wtal.extractors.execution.assembly_line import Line
    from wtal.extractors.execution.extractor import Extractor

_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Picture:
    """A file, and the sides of its pictures in pixels."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Rates:
    """`work` is seconds of each stage for one of what `load` counts; `together` how many stages work at a time."""

    work: dict[str, float]
    together: float

    def seconds(self, load: Mapping[str, float]) -> float:
        """That go by until all stages have done so much."""
        return sum(self.work.get(stage, 0) * amount for stage, amount in load.items()) / self.together


def load(extractors: "Sequence[Extractor]", picture: Picture, frames: int) -> dict[str, float]:
    """What each stage has to do for so many frames of a video: its units, times pixels where it depends on them."""
    from wtal.extractors.execution.assembly_line import DECODE, FLOWS
    from wtal.extractors.execution.video_pass import COLOUR

    flows = {str(one.flow.identity) for one in extractors if one.flow}
    units = Counter({DECODE: frames, COLOUR: len(flows) * frames, FLOWS: len(flows) * frames})
    for one in extractors:
        units.update(dict.fromkeys(map(one.stage, one.backbones), grid(one, frames).num_snippets))
    return {stage: units[stage] * size for stage, size in _sizes(extractors, picture).items()}


def _sizes(extractors: "Sequence[Extractor]", picture: Picture) -> dict[str, int]:
    """How much a unit of each stage is: pixels of the file for the reader, scaled for the others; 1 for a crop."""
    from wtal.extractors.decoding.frame_size import scaled_size
    from wtal.extractors.execution.assembly_line import DECODE, FLOWS
    from wtal.extractors.execution.video_pass import COLOUR

    width, height = scaled_size(picture.width, picture.height, extractors[0].size)
    sizes = {DECODE: picture.width * picture.height, COLOUR: width * height, FLOWS: width * height}
    for one in extractors:
        sizes |= {one.stage(name): 1 if network.crop else width * height for name, network in one.backbones.items()}
    return sizes


def grid(extractor: "Extractor", frames: int) -> SnippetGrid:
    """The clock of a video of so many frames."""
    spec = extractor.spec
    return SnippetGrid(spec.fps, frames, Fraction(extractor.stride), extractor.span, spec.tail)


def measure(
    extractors: "Sequence[Extractor]", sample: Sequence[Picture], decoders: int, seconds: float
) -> Rates | None:
    """Try extractors that see the same frames on videos of the sample, in turn, for about so many seconds in all.

    First come two rounds of a clip by each backbone, however long those take: one to warm up, as what is compiled or
    loaded on first use is not counted, one for the stages that the rest of the time is too short for. None where
    nothing can be read.
    """
    start = time.perf_counter()
    _, first = (_try(extractors, sample[0], decoders, _first_clips) for _ in range(2))
    tried: list[_Tried] = []
    for number, picture in enumerate(sample):
        left = start + seconds - time.perf_counter()
        if left > 0:
            tried.append(_try(extractors, picture, decoders, _again_and_again, left / (len(sample) - number)))
    return _rates(first, tried)


@dataclass(frozen=True)
class _Tried:
    """Of one trial: seconds at work and load done by stage, and seconds that went by meanwhile."""

    worked: Counter[str]
    done: Counter[str]
    seconds: float


def _rates(first: _Tried, others: Sequence[_Tried]) -> Rates | None:
    seconds, worked, done = 0.0, Counter[str](), Counter[str]()
    for one in [one for one in others if one.done] or [first]:
        seconds += one.seconds
        worked.update(one.worked)
        done.update(one.done)
    if not done:
        return None
    work = {stage: first.worked[stage] / first.done[stage] for stage in first.done}
    return Rates(work | {stage: worked[stage] / done[stage] for stage in done}, worked.total() / seconds)


def _try(
    extractors: "Sequence[Extractor]",
    picture: Picture,
    decoders: int,
    go: "Callable[[Line, Path], None]",
    seconds: float = math.inf,
) -> _Tried:
    """Have so many videos in flight until they are through, or until the time is over since the first frames came."""
    from wtal.extractors.execution.assembly_line import Line

    with Line(extractors) as line, ThreadPoolExecutor(decoders) as pool:
        flying = [pool.submit(go, line, picture.path) for _ in range(decoders)]
        start = None
        while wait(flying, _LOOK_SECONDS).not_done:
            start = start or (time.perf_counter() if line.times.stages() else None)
            if start and time.perf_counter() - start > seconds:
                break
        line.close()
    sizes, stages = _sizes(extractors, picture), line.times.stages()
    return _Tried(
        Counter({stage: spent.seconds for stage, spent in stages.items()}),
        Counter({stage: spent.units * sizes[stage] for stage, spent in stages.items() if spent.units}),
        line.times.elapsed,
    )


def _first_clips(line: "Line", path: Path) -> None:
    """A snippet by each backbone."""
    with suppress(VideoError):
        line.rehearse(path, max(one.stride for one in line.extractors))


def _again_and_again(line: "Line", path: Path) -> None:
    """Until the line is closed, or the file turns out not to be readable."""
    with suppress(VideoError, CancelledError):
        while True:
            line.run(path)
