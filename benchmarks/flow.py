"""Pairs of frames per second, and endpoint error in pixels, by flow method and by TV-L1's parameters.

The pairs are pictures that a formula moved (`benchmarks/_motions.py`): translation, rotation, zoom and a disc before
the ground, by little and by much. `error` is the mean over all of them of the mean distance between the flow and the
truth, occluded and leaving pixels included; `small_error` is that of the small motions alone. `cpu_ms` are milliseconds
of all cores together that a pair took in the quickest repetition, which other work on the machine moves least.

`tvl1`, `tvl1-fast` and `dis` work as extraction does, a pair a core. OpenCV's `DualTVL1OpticalFlow` has its default
parameters, once with its own threads on one pair after the other and once a pair a core; ratios are to the better of
the two. The rows below them are TV-L1 by numba with other parameters: scales x scale step, warps, outer x inner
iterations, side of the median. `tvl1-fast` was chosen from them: error and small error at most 1.05 of OpenCV's.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._motions import SMALL, endpoint_error, pairs
from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.extractors import tvl1_numba
from wtal.extractors.optical_flow import FlowEngine, create_flow
from wtal.extractors.tvl1 import Parameters

SIZES = ("340x256",)
METHODS = ("tvl1", "tvl1-fast", "dis")
OPENCV = ("OpenCV, its threads", "OpenCV, a pair a core")
SETTINGS = (
    "5x0.8 w5 1x30 m5",
    "5x0.8 w5 3x10 m5",
    *(f"{levels} w{warps} 1x30 m5" for levels in ("4x0.5", "5x0.5", "5x0.6", "7x0.7") for warps in (1, 2, 3)),
    *(f"5x0.5 w2 {rounds} m5" for rounds in ("1x10", "1x20", "2x15", "1x50")),
    *(f"5x0.5 w2 1x30 m{median}" for median in (1, 3)),
)

Flows = NDArray[np.float32]
Result = tuple[list[dict[str, Any]], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run every method on every motion in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="of the pictures")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="parameters of TV-L1 to try, as in a row")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the methods take turns in each")
    options = parser.parse_args(argv)
    found: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in options.sizes:
        more = measure(size, options.settings, options.repeat)
        found, ratios = found + more[0], ratios | more[1]
    report("flow", found, ratios, options.out)


def measure(size: str, settings: Sequence[str], repeat: int) -> Result:
    """Rows and ratios for all motions in pictures of one size."""
    width, height = map(int, size.split("x"))
    names, first, second, truth = (list(column) for column in zip(*pairs(width, height), strict=True))
    made: dict[str, Flows] = {}
    seconds: dict[str, float] = {}
    tasks = {
        name: partial(_keep, made, seconds, name, task)
        for name, task in ways(np.stack(first), np.stack(second), settings).items()
    }
    times = take_turns(tasks, repeat)
    speeds = rates(times, len(names))
    errors = {name: [endpoint_error(*pair) for pair in zip(flows, truth, strict=True)] for name, flows in made.items()}
    means = {name: (float(np.mean(each)), _mean_of_small(names, each)) for name, each in errors.items()}
    found = [
        {
            **row,
            "cpu_ms": round(1000 * seconds[row["task"]] / len(names), 2),
            "error": round(means[row["task"]][0], 4),
            "small_error": round(means[row["task"]][1], 4),
        }
        for row in rows(size, times, len(names), "pairs_per_s")
    ]
    base = max(OPENCV, key=lambda name: speeds[name])
    ratios = {}
    for name in METHODS:
        ratios[f"{name} / OpenCV, {size}"] = short(speeds[name] / speeds[base])
        least = min(seconds[one] for one in OPENCV)
        ratios[f"cpu time of OpenCV / of {name}, {size}"] = short(least / seconds[name])
        ratios[f"error of {name} / of OpenCV, {size}"] = round(means[name][0] / means[base][0], 3)
        ratios[f"small error of {name} / of OpenCV, {size}"] = round(means[name][1] / means[base][1], 3)
    return found, ratios


def ways(
    first: NDArray[np.uint8], second: NDArray[np.uint8], settings: Sequence[str]
) -> dict[str, Callable[[], Flows]]:
    """Name -> a call that gives the flow of all pairs, (N, H, W, 2)."""
    cores = os.cpu_count() or 1
    on_cores = partial(flows_of, first=first, second=second)
    contrib = create_flow("tvl1:opencv-contrib")
    tasks = {name: partial(on_cores, create_flow(name).engines(cores)) for name in METHODS}
    tasks |= {
        OPENCV[0]: partial(with_threads, cores, partial(on_cores, contrib.engines(1))),
        OPENCV[1]: partial(with_threads, 1, partial(on_cores, contrib.engines(cores))),
    }
    return tasks | {
        name: partial(on_cores, [tvl1_numba.Engine(parameters(name)) for _ in range(cores)]) for name in settings
    }


def parameters(text: str) -> Parameters:
    """Scales x step, warps, outer x inner iterations, median: "5x0.5 w2 1x30 m5"."""
    pyramid, warps, rounds, median = text.split()
    scales, step = pyramid.split("x")
    outer, inner = rounds.split("x")
    return Parameters(
        scales=int(scales),
        scale_step=float(step),
        warps=int(warps[1:]),
        outer_iterations=int(outer),
        inner_iterations=int(inner),
        median=int(median[1:]),
    )


def flows_of(engines: Sequence[FlowEngine], first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Flows:
    """(N, H, W), (N, H, W) -> (N, H, W, 2), an engine a thread: who is free takes the next pair."""
    flows = np.empty((*first.shape, 2), np.float32)
    numbers = iter(range(len(first)))

    def work(engine: FlowEngine) -> None:
        for i in numbers:
            flows[i] = engine(first[i : i + 1], second[i : i + 1])[0]

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(work, engines))
    return flows


def with_threads(count: int, task: Callable[[], Flows]) -> Flows:
    """The task, OpenCV held to so many threads meanwhile."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        return task()
    finally:
        cv2.setNumThreads(before)


def _keep(made: dict[str, Flows], seconds: dict[str, float], name: str, task: Callable[[], Flows]) -> None:
    """Run a task; its result and the least of its processor times stay."""
    start = time.process_time()
    made[name] = task()
    seconds[name] = min(seconds.get(name, math.inf), time.process_time() - start)


def _mean_of_small(names: Sequence[str], errors: Sequence[float]) -> float:
    return float(np.mean([error for name, error in zip(names, errors, strict=True) if name.endswith(SMALL)]))


if __name__ == "__main__":
    main(sys.argv[1:])
