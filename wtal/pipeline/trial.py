"""What the stages of extraction take here, tried for a few seconds, and what that comes to for other videos.

A trial keeps as many videos in flight as there will be, and is called off when its time is over and every backbone has
done something. What each stage was at work for, by its units and, where it depends on them, pixels, is its rate; how
many stages were at work at a time turns their work into time that goes by. So work that was begun counts as far as it
came, and a video counts by its pictures' size, not by the sizes that happened to be tried.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from wtal.data.grid import SnippetGrid
from wtal.errors import VideoError

if TYPE_CHECKING:
    from wtal.extractors.extractor import Extractor
    from wtal.extractors.line import Line

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
    from wtal.extractors.line import DECODE, FLOWS
    from wtal.extractors.streams import COLOUR

    flows = {str(one.flow.identity) for one in extractors if one.flow}
    units = Counter({DECODE: frames, COLOUR: len(flows) * frames, FLOWS: len(flows) * frames})
    for one in extractors:
        units.update(dict.fromkeys(map(one.stage, one.backbones), grid(one, frames).num_snippets))
    return {stage: units[stage] * size for stage, size in _sizes(extractors, picture).items()}


def _sizes(extractors: "Sequence[Extractor]", picture: Picture) -> dict[str, int]:
    """How much a unit of each stage is: pixels of the file for the reader, scaled for the others; 1 for a crop."""
    from wtal.extractors.line import DECODE, FLOWS
    from wtal.extractors.scale import scaled_size
    from wtal.extractors.streams import COLOUR

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

    The first try ends as soon as every backbone has done a batch, however long that takes. What is compiled or loaded
    on first use is in it: it counts only where it leaves too little time for others. None where nothing can be read.
    """
    start = time.perf_counter()
    first = _try(extractors, sample[0], decoders, 0)
    tried = [] if time.perf_counter() - start < seconds / 2 else [first]
    for number, picture in enumerate(sample):
        left = start + seconds - time.perf_counter()
        if tried and left <= 0:
            break
        tried.append(_try(extractors, picture, decoders, left / (len(sample) - number)))
    return _rates(tried)


@dataclass(frozen=True)
class _Tried:
    """Of one trial: seconds at work and load done by stage, and seconds that went by."""

    worked: Counter[str]
    done: Counter[str]
    seconds: float


def _rates(tried: Sequence[_Tried]) -> Rates | None:
    worked, done = Counter[str](), Counter[str]()
    for one in tried:
        worked.update(one.worked)
        done.update(one.done)
    if not done:
        return None
    together = worked.total() / sum(one.seconds for one in tried)
    return Rates({stage: worked[stage] / done[stage] for stage in done}, together)


def _try(extractors: "Sequence[Extractor]", picture: Picture, decoders: int, seconds: float) -> _Tried:
    """Extract from a video, again and again, until the time is over and every backbone has done something."""
    from wtal.extractors.line import DECODE, Line

    backbones = [one.stage(stream) for one in extractors for stream in one.backbones]
    with Line(extractors) as line, ThreadPoolExecutor(decoders) as pool:
        through = threading.Event()
        flying = [pool.submit(_go_on, line, picture.path, through) for _ in range(decoders)]
        start = None
        while not all(one.done() for one in flying):
            stages = line.times.stages()
            start = start or (time.perf_counter() if DECODE in stages else None)
            began = through.is_set() or all(stage in stages for stage in backbones)
            if start and began and time.perf_counter() - start > seconds:
                break
            time.sleep(_LOOK_SECONDS)
        line.close()
        end = time.perf_counter()
    sizes, stages = _sizes(extractors, picture), line.times.stages()
    return _Tried(
        Counter({stage: spent.seconds for stage, spent in stages.items()}),
        Counter({stage: spent.units * sizes[stage] for stage, spent in stages.items() if spent.units}),
        end - (start or end),
    )


def _go_on(line: "Line", path: Path, through: threading.Event) -> None:
    """Until the line is closed, or the file turns out not to be readable; `through` says that it was read once."""
    with suppress(VideoError, CancelledError):
        while True:
            line.run(path)
            through.set()
