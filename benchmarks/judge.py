"""Detections judged per second: the judge, plain loops, and data frames as in the official evaluator.

All get the same made-up collection and give the same average precision of every class at every threshold, which is
checked. The first two start from segments read from a file; the data frames are built before the time
starts. wtal judges small collections many times per turn: a single judgement is too short to be measured on a machine
with other work. Up to the size `--whole`, all of them judge everything. Above it, the peers judge
only the first classes, with `--sample` detections in total, and their rate is extrapolated to the whole: their
work grows with the number of detections. `process mib` is the peak memory of the whole process up to that point,
segments and peers included. The data frames need pandas, and are left out without it.
"""

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks._peers import Found, Precision, Truth, data_frames, frames, plain_loops
from benchmarks._report import arguments, report
from benchmarks._turns import Times, rates, rows, short, take_turns
from wtal.data.segments import Annotation, Detection
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious

COUNTS = (5700, 14250, 1000000)
_MEASURE = "detections_per_s"
_MEDIUM = 100_000
_AT_LEAST = 200_000
"""Detections that wtal judges in a turn."""
_ACCURACY = 1e-9


@dataclass(frozen=True)
class Scene:
    """A made-up collection of annotations, detections and thresholds."""

    truth: Truth
    found: Found
    tious: tuple[float, ...]

    @property
    def count(self) -> int:
        """Detections."""
        return sum(map(len, self.found.values()))


def main(argv: Sequence[str] | None = None) -> None:
    """All of them at every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--detections", type=int, nargs="+", default=COUNTS, help="sizes, rising")
    parser.add_argument("--whole", type=int, default=20000, help="up to here the peers judge everything")
    parser.add_argument("--sample", type=int, default=5000, help="above, detections of the classes that they judge")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    found, ratios = [], {}
    for count in options.detections:
        whole = scene(count)
        part = whole if count <= options.whole else sample(whole, options.sample)
        rounds = max(1, _AT_LEAST // count)
        kept: dict[str, Precision] = {}
        tasks = {"wtal": partial(judge, whole, rounds), **peers(part)}
        times = take_turns({name: partial(keep, kept, name, task) for name, task in tasks.items()}, options.repeat)
        check(kept)
        amounts = {name: whole.count * rounds if name == "wtal" else part.count for name in tasks}
        rows_here, ratios_here = told(f"{count} detections", times, amounts)
        found += rows_here
        ratios |= ratios_here
    report("judge", found, ratios, options.out)


def told(size: str, times: Times, amounts: Mapping[str, int]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row a task, which got through so many detections in a turn; and the first one's speed over each other's."""
    speeds: dict[str, float] = {}
    found: list[dict[str, Any]] = []
    for name, amount in amounts.items():
        one = {name: times[name]}
        speeds |= rates(one, amount)
        found += [row | {"process_mib": memory()} for row in rows(size, one, amount, _MEASURE)]
    first, *others = amounts
    return found, {f"{first} / {name}, {size}": short(speeds[first] / speeds[name]) for name in others}


def scene(count: int) -> Scene:
    """THUMOS14's size and thresholds for few detections, those of HACS for many; scores differ.

    Half of the detections lie near an annotation, one in ten of them under another class.
    """
    large = count > _MEDIUM
    videos, classes, a_video, seconds = (6000, 200, 6, 150) if large else (213, 20, 16, 220)
    rng = np.random.default_rng(0)
    label = rng.integers(classes, size=videos)
    scores = iter(rng.permutation(count + videos) / (count + videos))
    truth: dict[str, list[Annotation]] = {}
    found: dict[str, list[Detection]] = {}
    for i in range(videos):
        name, shown = f"video-{i:05d}", f"class-{label[i]:03d}"
        starts = np.sort(rng.uniform(0, seconds, a_video))
        spans = np.stack([starts, starts + rng.uniform(1, 15, a_video)], 1)
        truth[name] = [Annotation(a, b, shown) for a, b in spans.tolist()]
        here = count // videos + (i < count % videos)
        near = spans[rng.integers(a_video, size=here)] + rng.normal(0, 1, (here, 2))
        far = np.repeat(rng.uniform(0, seconds, (here, 1)), 2, 1) + rng.uniform(0, 15, (here, 2))
        cuts = np.sort(np.where(rng.random((here, 1)) < 0.5, near, far), 1).tolist()
        others = np.where(rng.random(here) < 0.1, rng.integers(classes, size=here), label[i]).tolist()
        found[name] = [
            Detection(a, b, f"class-{other:03d}", float(next(scores)))
            for (a, b), other in zip(cuts, others, strict=True)
        ]
    return Scene(truth, found, parse_tious("0.5:0.95:0.05" if large else "0.1:0.9:0.1"))


def sample(whole: Scene, count: int) -> Scene:
    """The first classes, as many as hold `count` detections."""
    by_label: dict[str, int] = {}
    for detections in whole.found.values():
        for one in detections:
            by_label[one.label] = by_label.get(one.label, 0) + 1
    chosen, held = set(), 0
    for label in sorted(by_label):
        if held < count:
            chosen.add(label)
            held += by_label[label]
    truth = {video: [a for a in segments if a.label in chosen] for video, segments in whole.truth.items()}
    found = {video: [d for d in segments if d.label in chosen] for video, segments in whole.found.items()}
    return Scene(truth, found, whole.tious)


def judge(one: Scene, rounds: int) -> Precision:
    """What is measured, so many times."""
    for _ in range(rounds):
        result = evaluate_detections(one.truth, one.found, one.tious)
    return {label: [*by_tiou.values()] for label, by_tiou in result.ap.items()}


def peers(one: Scene) -> dict[str, Callable[[], Precision]]:
    """What it is measured against, by name."""
    found: dict[str, Callable[[], Precision]] = {"plain loops": partial(plain_loops, one.truth, one.found, one.tious)}
    if find_spec("pandas") is not None:
        found["data frames"] = partial(data_frames, *frames(one.truth, one.found), one.tious)
    return found


def keep(kept: dict[str, Precision], name: str, task: Callable[[], Precision]) -> None:
    """Run a task and hold its result under its name."""
    kept[name] = task()


def check(kept: Mapping[str, Precision]) -> None:
    """Refuse to compare judges that do not agree.

    Raises:
        ValueError: when an average precision differs; classes that only wtal judged are passed over.
    """
    for name, theirs in kept.items():
        pairs = [pair for label in theirs for pair in zip(kept["wtal"][label], theirs[label], strict=True)]
        apart = max(abs(a - b) for a, b in pairs)
        if apart > _ACCURACY:
            raise ValueError(f"{name} and wtal are {apart:.1e} apart, {_ACCURACY:.0e} is allowed")


def memory() -> int:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 10)


if __name__ == "__main__":
    main(sys.argv[1:])
