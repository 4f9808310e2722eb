"""Pairs of frames per second, and endpoint error in pixels, by flow method and by TV-L1's parameters.

The pairs are pictures moved by a formula (`benchmarks/_motions.py`): translation, rotation, zoom and a disc in front of
the background, small and large, each with five textures, without noise and with it. `error` is the mean over all of
them of the mean distance between the flow and the truth, occluded and leaving pixels included; `small_error` is that of
the small motions alone. `by_texture` is the small motions' error over OpenCV's, the mean over the textures, each of the
same weight; `worst_texture` is the largest of these.

Speed is measured on every motion once, with textures and noises in turn. `cpu_ms` is the time of such a pair in
milliseconds, summed over all cores, in the fastest repetition, which other work on the machine affects least.

`tvl1`, `tvl1-fast` and `dis` work as in extraction, one pair per core. OpenCV's `DualTVL1OpticalFlow` has its default
parameters, once with its own threads on one pair after the other and once with one pair per core; ratios are to the
better of the two. The rows below them are TV-L1 by numba with other parameters: scales x scale step, warps, outer x
inner iterations, side of the median. With textures of another seed (`--seed 1`), `tvl1-fast` is the cheapest of those
with OpenCV's median filter whose error, and whose small error with each texture, are at most 1.05 of OpenCV's.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._motions import SMALL, TEXTURES, Pair, endpoint_error, pairs, sample
from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.extractors.optical_flow import FlowEngine, create_flow
from wtal.extractors.tvl1 import numba_engine
from wtal.extractors.tvl1.parameters import Parameters

SIZES = ("340x256",)
METHODS = ("tvl1", "tvl1-fast", "dis")
OPENCV = ("OpenCV, its threads", "OpenCV, one pair per core")
SETTINGS = (
    *(f"5x0.8 {rest} m5" for rest in ("w3 1x30", "w5 1x30")),
    *(f"5x0.7 {rest} m5" for rest in ("w1 1x30", "w2 1x30", "w2 1x50", "w2 3x30", "w3 1x30", "w4 1x30")),
    *(f"5x0.7 w3 {rest}" for rest in ("1x20 m5", "2x15 m5", "3x30 m5", "1x30 m1", "1x30 m3")),
    *(f"{pyramid} w3 1x30 m5" for pyramid in ("4x0.7", "7x0.7", "5x0.6")),
    *(f"3x0.5 {rest} m5" for rest in ("w3 1x30", "w5 5x15")),
    *(f"5x0.5 {rest} m5" for rest in ("w2 1x30", "w3 3x30", "w5 3x30")),
)

Grays = NDArray[np.uint8]
Flows = NDArray[np.float32]
Way = Callable[[Grays, Grays], Flows]
Result = tuple[list[dict[str, Any]], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run every method on every motion in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="of the pictures")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="parameters of TV-L1 to try, as in a row")
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=[*TEXTURES], help="for the errors")
    parser.add_argument("--seed", type=int, default=0, help="of the textures")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the methods take turns in each")
    options = parser.parse_args(argv)
    found: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in options.sizes:
        more = measure(size, options.settings, options.textures, options.seed, options.repeat)
        found, ratios = found + more[0], ratios | more[1]
    report("flow", found, ratios, options.out)


def measure(size: str, settings: Sequence[str], textures: Sequence[str], seed: int, repeat: int) -> Result:
    """Rows and ratios for all motions in pictures of one size."""
    width, height = map(int, size.split("x"))
    tasks = ways(settings)
    errors = errors_of(tasks, list(pairs(width, height, seed, textures)))
    first, second = stacked(list(sample(width, height, seed)))
    seconds: dict[str, float] = {}
    times = take_turns(
        {name: partial(_timed, seconds, name, partial(task, first, second)) for name, task in tasks.items()}, repeat
    )
    speeds = rates(times, len(first))
    found = [
        {**row, "cpu_ms": round(1000 * seconds[row["task"]] / len(first), 2), **errors[row["task"]]}
        for row in rows(size, times, len(first), "pairs_per_s")
    ]
    base, least = max(speeds[one] for one in OPENCV), min(seconds[one] for one in OPENCV)
    ratios = {}
    for name in METHODS:
        of, opencv = errors[name], errors[OPENCV[0]]
        ratios[f"{name} / OpenCV, {size}"] = short(speeds[name] / base)
        ratios[f"cpu time of OpenCV / of {name}, {size}"] = short(least / seconds[name])
        ratios[f"error of {name} / of OpenCV, {size}"] = round(of["error"] / opencv["error"], 3)
        ratios[f"small error of {name} / of OpenCV, {size}"] = round(of["small_error"] / opencv["small_error"], 3)
        ratios[f"small error of {name} / of OpenCV by texture, {size}"] = round(of["by_texture"], 3)
        ratios[f"small error of {name} / of OpenCV in the worst texture, {size}"] = round(of["worst_texture"], 3)
    return found, ratios


def errors_of(tasks: Mapping[str, Way], found: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """What a row says of each task's errors; OpenCV's flow is made once."""
    first, second = stacked(found)
    errors = {}
    for name, task in tasks.items():
        if name != OPENCV[1]:
            flows = task(first, second)
            errors[name] = np.array([endpoint_error(flow, one.truth) for flow, one in zip(flows, found, strict=True)])
    errors[OPENCV[1]] = errors[OPENCV[0]]
    small = np.array([one.motion.endswith(SMALL) for one in found])
    textures = dict.fromkeys(one.texture for one in found)
    of_texture = [small & np.array([one.texture == texture for one in found]) for texture in textures]
    made = {}
    for name, each in errors.items():
        ratios = [each[which].mean() / errors[OPENCV[0]][which].mean() for which in of_texture]
        made[name] = {
            "error": round(float(each.mean()), 4),
            "small_error": round(float(each[small].mean()), 4),
            "by_texture": round(float(np.mean(ratios)), 3),
            "worst_texture": round(float(max(ratios)), 3),
        }
    return made


def stacked(found: Sequence[Pair]) -> tuple[Grays, Grays]:
    """The first and the second pictures, (N, H, W)."""
    return np.stack([one.first for one in found]), np.stack([one.second for one in found])


def ways(settings: Sequence[str]) -> dict[str, Way]:
    """Name -> a call that gives the flow of pairs, (N, H, W), (N, H, W) -> (N, H, W, 2)."""
    cores = os.cpu_count() or 1
    contrib = create_flow("tvl1:opencv-contrib")
    tasks: dict[str, Way] = {name: partial(flows_of, create_flow(name).engines(cores)) for name in METHODS}
    tasks |= {
        OPENCV[0]: partial(with_threads, cores, contrib.engines(1)),
        OPENCV[1]: partial(with_threads, 1, contrib.engines(cores)),
    }
    return tasks | {
        name: partial(flows_of, [numba_engine.Engine(parameters(name)) for _ in range(cores)]) for name in settings
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


def flows_of(engines: Sequence[FlowEngine], first: Grays, second: Grays) -> Flows:
    """(N, H, W), (N, H, W) -> (N, H, W, 2), an engine a thread: who is free takes the next pair."""
    flows = np.empty((*first.shape, 2), np.float32)
    numbers = iter(range(len(first)))

    def work(engine: FlowEngine) -> None:
        for i in numbers:
            flows[i] = engine(first[i : i + 1], second[i : i + 1])[0]

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(work, engines))
    return flows


def with_threads(count: int, engines: Sequence[FlowEngine], first: Grays, second: Grays) -> Flows:
    """The same, OpenCV held to so many threads meanwhile."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        return flows_of(engines, first, second)
    finally:
        cv2.setNumThreads(before)


def _timed(seconds: dict[str, float], name: str, task: Callable[[], object]) -> None:
    """Run a task; the least of its processor times stays."""
    start = time.process_time()
    task()
    seconds[name] = min(seconds.get(name, math.inf), time.process_time() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
