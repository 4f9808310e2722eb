"""Time several tasks in turns, so that other work on the machine affects all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Times = dict[str, list[float]]


def take_turns(tasks: Mapping[str, Callable[[], object]], repeat: int) -> Times:
    """Seconds of every task, one value per repetition.

    Each repetition runs each task once, every other repetition in reverse order. A first round, not counted, warms
    caches, buffers and processes.
    """
    times: Times = {name: [] for name in tasks}
    for number in range(repeat + 1):
        for name in tasks if number % 2 else reversed([*tasks]):
            start = time.perf_counter()
            tasks[name]()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def rates(times: Times, amount: int) -> dict[str, float]:
    """Units per second of every task: `amount` divided by the median of its seconds."""
    return {name: amount / statistics.median(values) for name, values in times.items()}


def rows(size: str, times: Times, amount: int, measure: str) -> list[dict[str, Any]]:
    """One row per task, with its rate under the name `measure`.

    `spread_percent` is the difference between the fastest repetition and the slowest, in percent of the median.
    """
    return [
        {"task": name, "size": size, measure: short(rate), "spread_percent": round(100 * _spread(times[name]))}
        for name, rate in rates(times, amount).items()
    ]


def short(value: float) -> float:
    """Round a number to three significant digits, or to a whole number from 100 on."""
    return round(value) if value >= 100 else float(f"{value:.3g}")


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
