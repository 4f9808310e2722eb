"""Timing of extraction: busy seconds and amount of work of each stage."""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """Busy seconds of one stage, summed over its workers, and the units it processed."""

    seconds: float = 0.0
    units: int = 0
    unit: str = ""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.units + other.units, self.unit or other.unit)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds - other.seconds, self.units - other.units, self.unit)


class TimeTable:
    """Stages in the order in which they first worked; safe to add to from any thread."""

    def __init__(self) -> None:
        self._stages: dict[str, Spent] = {}
        self._began = self._ended = math.inf
        self._lock = threading.Lock()

    @contextmanager
    def busy(self, stage: str, units: int = 0, unit: str = "") -> Iterator[None]:
        """Count the block as work of `stage` on `units`; work that fails counts too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, Spent(time.perf_counter() - start, units, unit))

    def add(self, stage: str, spent: Spent) -> None:
        """Add work of `stage`, which ends now."""
        with self._lock:
            self._ended = time.perf_counter()
            self._began = min(self._began, self._ended - spent.seconds)
            self._stages[stage] = self._stages.get(stage, Spent()) + spent

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning of the first work to the end of the last; 0 before any."""
        with self._lock:
            return self._ended - self._began if self._stages else 0.0

    def stages(self) -> dict[str, Spent]:
        """Return the work of each stage so far."""
        with self._lock:
            return dict(self._stages)

    def since(self, before: Mapping[str, Spent]) -> tuple[dict[str, Spent], dict[str, Spent]]:
        """Return the work since `before`, and all work so far, to pass as `before` in the next call."""
        now = self.stages()
        return {name: spent - before.get(name, Spent()) for name, spent in now.items()}, now
