"""One iteration of TV-L1 in numba on one core, compared with the limits of the core's memory and arithmetic.

`iteration` is one iteration on a whole level; `tvl1` runs hundreds of them. `memory alone` sweeps over the same rows,
loads the ten fields of each pixel, stores six of them, and computes nothing. `arithmetic alone` is the time for the
operations of each pixel (46 additions, multiplications and comparisons, two roots, one division), done in registers,
sixteen pixels at a time, at the speed measured here. Roots and divisions have a separate unit, so only the longer of
the two times counts. `still picture` and `still picture, denormals kept` are one iteration on flow that has nearly come
to rest.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import arguments, report
from benchmarks._turns import rates, short, take_turns
from wtal.extractors.tvl1 import numba_engine
from wtal.extractors.tvl1.numba_simd import (
    LANES,
    Vector,
    fill,
    flush_denormals,
    fold,
    kernel,
    lane,
    load,
    part,
    restore,
    root,
    store,
)
from wtal.extractors.tvl1.parameters import Parameters

Floats = NDArray[np.float32]

SIZES = ("340x256",)
_FIELDS, _CHANGED = 10, 6
_SIMPLE, _ROOTS, _DIVISIONS = 46, 2, 1
_ROUNDS = 20_000
_INDEPENDENT = 6


def main(argv: Sequence[str] | None = None) -> None:
    """Time an iteration and its two limits in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="sizes of the level")
    parser.add_argument("--iterations", type=int, default=50, help="iterations per repetition")
    parser.add_argument("--repeat", type=int, default=15, help="repetitions; the tasks take turns in each")
    options = parser.parse_args(argv)
    table: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        times = measure(width, height, options.iterations, options.repeat)
        table += [{"task": name, "size": size, "us_per_iteration": short(value)} for name, value in times.items()]
        ratios |= {
            f"iteration / {name}, {size}": short(times["iteration"] / times[name])
            for name in ("memory alone", "arithmetic alone")
        }
        ratios[f"denormals kept / flushed, {size}"] = short(
            times["still picture, denormals kept"] / times["still picture"]
        )
    report("flow_limits", table, ratios, options.out)


def measure(width: int, height: int, iterations: int, repeat: int) -> dict[str, float]:
    """Microseconds per iteration, by task."""
    moving, resting = _state(width, height, 1.0), _state(width, height, 1e-38)
    mask = np.zeros(numba_engine._pitch(width), np.float32)
    mask[: width - 1] = 1
    numbers = numba_engine.Engine(Parameters())._numbers
    run = partial(_iterations, mask=mask, height=height, width=width, numbers=numbers, count=iterations)
    tasks = {
        "iteration": partial(run, moving.copy(), flush=True),
        "memory alone": partial(_sweeps, moving.copy(), height, width, iterations),
        "still picture": partial(_from, resting, partial(run, flush=True)),
        "still picture, denormals kept": partial(_from, resting, partial(run, flush=False)),
        "simple": partial(_simple, _ROUNDS, np.float32(0.5)),
        "roots": partial(_roots, _ROUNDS, np.float32(0.5)),
        "divisions": partial(_divisions, _ROUNDS, np.float32(0.5)),
    }
    times = take_turns(tasks, repeat)
    seconds = {name: 1 / rate for name, rate in rates(times, 1).items()}
    vector_seconds = {name: seconds.pop(name) / (_ROUNDS * _INDEPENDENT) for name in ("simple", "roots", "divisions")}
    vectors = height * -(-width // LANES)
    longer = max(
        _SIMPLE * vector_seconds["simple"], _ROOTS * vector_seconds["roots"] + _DIVISIONS * vector_seconds["divisions"]
    )
    return {name: 1e6 * value / iterations for name, value in seconds.items()} | {
        "arithmetic alone": 1e6 * vectors * longer
    }


def _state(width: int, height: int, scale: float) -> Floats:
    """Random flow, dual variables and pictures, surrounded by zeros."""
    state = np.zeros(numba_engine._length(height, width), np.float32)
    rng = np.random.default_rng(0)
    for field in range(0, _FIELDS, 2):
        for row in range(height):
            for plane in (field, field + 1):
                at = numba_engine._start(row, width) + plane * numba_engine._pitch(width)
                state[at : at + width] = scale * rng.normal(0, 1, width)
    return state


def _from(state: Floats, task: Any) -> None:
    task(state.copy())


@kernel
def _iterations(state: Floats, mask: Floats, height: int, width: int, numbers: Any, count: int, flush: bool) -> None:
    before = flush_denormals()
    if not flush:
        restore(before)
    for _ in range(count):
        numba_engine._iterate(state, height, width, mask, numbers)
    restore(before)


@kernel
def _sweeps(state: Floats, height: int, width: int, count: int) -> np.float32:
    pitch = numba_engine._pitch(width)
    total = fill(np.float32(0))
    for _ in range(count):
        for row in range(height):
            for x in range(0, width, LANES):
                at = numba_engine._start(row, width) + x
                for field in range(_CHANGED, _FIELDS):
                    total = total + load(state, at + field * pitch)
                for field in range(_CHANGED):
                    store(state, at + field * pitch, load(state, at + field * pitch) + total)
    result: np.float32 = lane(fold(total, 1), 0)
    return result


@part
def _six(x: np.float32) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:
    a = fill(x)
    return a, a + a, a + a + a, a * a, a * a + a, a * a * a


@kernel
def _simple(count: int, x: np.float32) -> np.float32:
    a, b, c, d, e, f = _six(x)
    half, one = fill(x), fill(np.float32(1))
    for _ in range(count // 2):
        a, b, c = a * half + one, b * half + one, c * half + one
        d, e, f = d * half + one, e * half + one, f * half + one
    result: np.float32 = lane(fold(a + b + c + d + e + f, 1), 0)
    return result


@kernel
def _roots(count: int, x: np.float32) -> np.float32:
    a, b, c, d, e, f = _six(x)
    for _ in range(count):
        a, b, c, d, e, f = root(a), root(b), root(c), root(d), root(e), root(f)
    result: np.float32 = lane(fold(a + b + c + d + e + f, 1), 0)
    return result


@kernel
def _divisions(count: int, x: np.float32) -> np.float32:
    a, b, c, d, e, f = _six(x)
    one = fill(np.float32(1))
    for _ in range(count):
        a, b, c, d, e, f = one / a, one / b, one / c, one / d, one / e, one / f
    result: np.float32 = lane(fold(a + b + c + d + e + f, 1), 0)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
