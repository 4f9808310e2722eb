"""Pairs of frames per second, and endpoint error in pixels, by flow method and TV-L1 parameters.

The pairs are pictures moved by a formula (`benchmarks/_motions.py`): translation, rotation, zoom, and a disc in front
of the background. Each motion comes small and large, with five textures, with and without noise. `error` is the mean
distance between the flow and the truth over all pairs, including pixels that are occluded or leave the picture;
`small error` is that of the small motions alone. `by texture` is the ratio of the small motions' error to OpenCV's,
averaged over the textures; `worst texture` is the largest of these ratios.

Speed is measured on every motion once, alternating between the textures and noise levels. `cpu ms` is the processor
time per pair in milliseconds, summed over all cores, in the fastest repetition, which other work on the machine affects
least.

`tvl1`, `tvl1-fast` and `dis` work as in extraction, one pair per core. OpenCV's `DualTVL1OpticalFlow` has its default
parameters; it runs once with its own threads on one pair after another, and once with one pair per core. Ratios are to
the better of the two. The rows below these are TV-L1 in numba with other parameters: number of scales x scale step,
warps, outer x inner iterations, side of the median filter. With textures from another seed (`--seed 1`), `tvl1-fast` is
the cheapest variant with OpenCV's median filter whose error, and whose small error for each texture, is at most 1.05
times OpenCV's.
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
from wtal.extractors.flow import create_flow
from wtal.extractors.optical_flow import FlowEngine
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
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="sizes of the pictures")
    parser.add_argument(
        "--settings", nargs="*", default=SETTINGS, help="parameters of TV-L1 to try, in the notation of the rows"
    )
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=[*TEXTURES], help="textures for the errors")
    parser.add_argument("--seed", type=int, default=0, help="seed of the textures")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the methods take turns in each")
    options = parser.parse_args(argv)
    table: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in options.sizes:
        more = measure(size, options.settings, options.textures, options.seed, options.repeat)
        table, ratios = table + more[0], ratios | more[1]
    report("flow", table, ratios, options.out)


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
    table = [
        {**row, "cpu_ms": round(1000 * seconds[row["task"]] / len(first), 2), **errors[row["task"]]}
        for row in rows(size, times, len(first), "pairs_per_s")
    ]
    base, least = max(speeds[name] for name in OPENCV), min(seconds[name] for name in OPENCV)
    ratios = {}
    for name in METHODS:
        ours, opencv = errors[name], errors[OPENCV[0]]
        ratios[f"{name} / OpenCV, {size}"] = short(speeds[name] / base)
        ratios[f"cpu time of OpenCV / of {name}, {size}"] = short(least / seconds[name])
        ratios[f"error of {name} / of OpenCV, {size}"] = round(ours["error"] / opencv["error"], 3)
        ratios[f"small error of {name} / of OpenCV, {size}"] = round(ours["small_error"] / opencv["small_error"], 3)
        ratios[f"small error of {name} / of OpenCV by texture, {size}"] = round(ours["by_texture"], 3)
        ratios[f"small error of {name} / of OpenCV in the worst texture, {size}"] = round(ours["worst_texture"], 3)
    return table, ratios


def errors_of(tasks: Mapping[str, Way], examples: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Return the columns of each task's errors; OpenCV's flow is computed once."""
    first, second = stacked(examples)
    errors = {}
    for name, task in tasks.items():
        if name != OPENCV[1]:
            flows = task(first, second)
            errors[name] = np.array(
                [endpoint_error(flow, example.truth) for flow, example in zip(flows, examples, strict=True)]
            )
    errors[OPENCV[1]] = errors[OPENCV[0]]
    small = np.array([example.motion.endswith(SMALL) for example in examples])
    textures = dict.fromkeys(example.texture for example in examples)
    of_texture = [small & np.array([example.texture == texture for example in examples]) for texture in textures]
    table = {}
    for name, of_method in errors.items():
        ratios = [of_method[selected].mean() / errors[OPENCV[0]][selected].mean() for selected in of_texture]
        table[name] = {
            "error": round(float(of_method.mean()), 4),
            "small_error": round(float(of_method[small].mean()), 4),
            "by_texture": round(float(np.mean(ratios)), 3),
            "worst_texture": round(float(max(ratios)), 3),
        }
    return table


def stacked(examples: Sequence[Pair]) -> tuple[Grays, Grays]:
    """Stack the first and the second pictures, (N, H, W)."""
    return np.stack([example.first for example in examples]), np.stack([example.second for example in examples])


def ways(settings: Sequence[str]) -> dict[str, Way]:
    """Calls by name that compute the flow of pairs, (N, H, W), (N, H, W) -> (N, H, W, 2)."""
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
    """Parse parameters: scales x step, warps, outer x inner iterations, median, as in "5x0.5 w2 1x30 m5"."""
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
    """Compute flow, (N, H, W), (N, H, W) -> (N, H, W, 2), with one thread per engine, which takes pairs in turn."""
    flows = np.empty((*first.shape, 2), np.float32)
    numbers = iter(range(len(first)))

    def work(engine: FlowEngine) -> None:
        for i in numbers:
            flows[i] = engine(first[i : i + 1], second[i : i + 1])[0]

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(work, engines))
    return flows


def with_threads(count: int, engines: Sequence[FlowEngine], first: Grays, second: Grays) -> Flows:
    """Compute flow with OpenCV limited to `count` threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        return flows_of(engines, first, second)
    finally:
        cv2.setNumThreads(before)


def _timed(seconds: dict[str, float], name: str, task: Callable[[], object]) -> None:
    """Run a task and keep the least of its processor times."""
    start = time.process_time()
    task()
    seconds[name] = min(seconds.get(name, math.inf), time.process_time() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
