"""Detections judged per second: the judge, plain loops, and data frames as in the official evaluator.

All get the same synthetic collection and yield the same average precision for every class at every threshold, which is
checked. The first two start from segments in memory; the data frames are built before the clock starts. wtal judges
small collections many times per repetition, because a single evaluation is too short to measure on a machine with other
work. Up to the size `--whole`, all of them judge everything. Above it, the peers judge only the first classes, with
`--sample` detections in total, and their rate is extrapolated to the whole: their work grows with the number of
detections. `process mib` is the peak memory of the whole process up to that point, including segments and peers. The
data frames need pandas and are omitted without it.
"""

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks._peers import Detections, Precision, Truth, data_frames, frames, plain_loops
from benchmarks._report import arguments, report
from benchmarks._turns import Times, rates, rows, short, take_turns
from wtal.data.segments import Annotation, Detection
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious

COUNTS = (5700, 14250, 1000000)
_MEASURE = "detections_per_s"
_MEDIUM = 100_000
_AT_LEAST = 200_000
"""Detections that wtal judges per repetition, at least."""
_ACCURACY = 1e-9


@dataclass(frozen=True)
class Scene:
    """Synthetic collection: annotations, detections and thresholds."""

    truth: Truth
    detections: Detections
    tious: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of detections."""
        return sum(map(len, self.detections.values()))


def main(argv: Sequence[str] | None = None) -> None:
    """Time all of them at every size, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--detections", type=int, nargs="+", default=COUNTS, help="sizes, in rising order")
    parser.add_argument("--whole", type=int, default=20000, help="largest size that the peers judge entirely")
    parser.add_argument("--sample", type=int, default=5000, help="detections for the peers above that size")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    table, ratios = [], {}
    for count in options.detections:
        whole = scene(count)
        part = whole if count <= options.whole else sample(whole, options.sample)
        rounds = max(1, _AT_LEAST // count)
        results: dict[str, Precision] = {}
        tasks = {"wtal": partial(judge, whole, rounds), **peers(part)}
        times = take_turns({name: partial(keep, results, name, task) for name, task in tasks.items()}, options.repeat)
        check(results)
        amounts = {name: whole.count * rounds if name == "wtal" else part.count for name in tasks}
        more_rows, more_ratios = compare(f"{count} detections", times, amounts)
        table += more_rows
        ratios |= more_ratios
    report("judge", table, ratios, options.out)


def compare(size: str, times: Times, amounts: Mapping[str, int]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """One row per task of `amounts[task]` detections per repetition, and ratios of the first task to the others."""
    speeds: dict[str, float] = {}
    table: list[dict[str, Any]] = []
    for name, amount in amounts.items():
        single = {name: times[name]}
        speeds |= rates(single, amount)
        table += [row | {"process_mib": memory()} for row in rows(size, single, amount, _MEASURE)]
    first, *others = amounts
    return table, {f"{first} / {name}, {size}": short(speeds[first] / speeds[name]) for name in others}


def scene(count: int) -> Scene:
    """Build a collection of THUMOS14's size and thresholds, or of HACS's for many detections; all scores differ.

    Half of the detections are near an annotation; one in ten has another class.
    """
    large = count > _MEDIUM
    videos, classes, per_video, seconds = (6000, 200, 6, 150) if large else (213, 20, 16, 220)
    rng = np.random.default_rng(0)
    label = rng.integers(classes, size=videos)
    scores = iter(rng.permutation(count + videos) / (count + videos))
    truth: dict[str, list[Annotation]] = {}
    detections: dict[str, list[Detection]] = {}
    for i in range(videos):
        name, shown = f"video-{i:05d}", f"class-{label[i]:03d}"
        starts = np.sort(rng.uniform(0, seconds, per_video))
        spans = np.stack([starts, starts + rng.uniform(1, 15, per_video)], 1)
        truth[name] = [Annotation(a, b, shown) for a, b in spans.tolist()]
        share = count // videos + (i < count % videos)
        near = spans[rng.integers(per_video, size=share)] + rng.normal(0, 1, (share, 2))
        far = np.repeat(rng.uniform(0, seconds, (share, 1)), 2, 1) + rng.uniform(0, 15, (share, 2))
        cuts = np.sort(np.where(rng.random((share, 1)) < 0.5, near, far), 1).tolist()
        labels = np.where(rng.random(share) < 0.1, rng.integers(classes, size=share), label[i]).tolist()
        detections[name] = [
            Detection(a, b, f"class-{number:03d}", float(next(scores)))
            for (a, b), number in zip(cuts, labels, strict=True)
        ]
    return Scene(truth, detections, parse_tious("0.5:0.95:0.05" if large else "0.1:0.9:0.1"))


def sample(whole: Scene, count: int) -> Scene:
    """Reduce a collection to its first classes, up to `count` detections."""
    by_label: dict[str, int] = {}
    for segments in whole.detections.values():
        for detection in segments:
            by_label[detection.label] = by_label.get(detection.label, 0) + 1
    chosen, total = set(), 0
    for label in sorted(by_label):
        if total < count:
            chosen.add(label)
            total += by_label[label]
    truth = {video: [a for a in segments if a.label in chosen] for video, segments in whole.truth.items()}
    detections = {video: [d for d in segments if d.label in chosen] for video, segments in whole.detections.items()}
    return Scene(truth, detections, whole.tious)


def judge(collection: Scene, rounds: int) -> Precision:
    """Judge a collection `rounds` times."""
    for _ in range(rounds):
        result = evaluate_detections(collection.truth, collection.detections, collection.tious)
    return {label: [*by_tiou.values()] for label, by_tiou in result.ap.items()}


def peers(collection: Scene) -> dict[str, Callable[[], Precision]]:
    """Tasks of the judge's peers, by name."""
    truth, detections, tious = collection.truth, collection.detections, collection.tious
    tasks: dict[str, Callable[[], Precision]] = {"plain loops": partial(plain_loops, truth, detections, tious)}
    if find_spec("pandas") is not None:
        tasks["data frames"] = partial(data_frames, *frames(truth, detections), tious)
    return tasks


def keep(results: dict[str, Precision], name: str, task: Callable[[], Precision]) -> None:
    """Run a task and store its result under its name."""
    results[name] = task()


def check(results: Mapping[str, Precision]) -> None:
    """Refuse to compare judges that disagree.

    Raises:
        ValueError: when an average precision differs; classes that only wtal judged are ignored.
    """
    for name, precision in results.items():
        pairs = [pair for label in precision for pair in zip(results["wtal"][label], precision[label], strict=True)]
        difference = max(abs(a - b) for a, b in pairs)
        if difference > _ACCURACY:
            raise ValueError(f"{name} and wtal differ by {difference:.1e}; {_ACCURACY:.0e} is allowed")


def memory() -> int:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 10)


if __name__ == "__main__":
    main(sys.argv[1:])
