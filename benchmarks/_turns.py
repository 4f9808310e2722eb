"""Time several tasks in turns, so that what else the machine is doing falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Times = dict[str, list[float]]


def take_turns(tasks: Mapping[str, Callable[[], object]], repeat: int) -> Times:
    """Seconds of every task, one value a repetition.

    Each repetition runs each task once, every other one in reverse order. One round before them warms caches,
    buffers and processes and is not counted.
    """
    times: Times = {name: [] for name in tasks}
    for number in range(repeat + 1):
        for name in tasks if number % 2 else reversed([*tasks]):
            start = time.perf_counter()
            tasks[name]()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def rates(times: Times, amount: int) -> dict[str, float]:
    """Units a second: every task gets through `amount` of them, in the median of its seconds."""
    return {name: amount / statistics.median(values) for name, values in times.items()}


def rows(size: str, times: Times, amount: int, measure: str) -> list[dict[str, Any]]:
    """A row a task, with its rate under the name `measure`.

    `spread_percent` is the distance from the fastest repetition to the slowest, of the median.
    """
    return [
        {"task": name, "size": size, measure: short(rate), "spread_percent": round(100 * _spread(times[name]))}
        for name, rate in rates(times, amount).items()
    ]


def short(value: float) -> float:
    """Three digits of a number, all of them before the point."""
    return round(value) if value >= 100 else float(f"{value:.3g}")


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
