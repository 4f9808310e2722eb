"""Timing of a call of extraction, as a table and as JSON."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.extractors.execution.stage_times import Spent


@dataclass(frozen=True)
class Profile:
    """Elapsed seconds, videos, and the work of each stage, summed over threads and processes.

    Stages work in parallel, so the sum of their seconds may exceed the elapsed time.
    """

    seconds: float
    videos: int
    stages: "dict[str, Spent]"

    @property
    def busy(self) -> float:
        """Busy seconds of all stages."""
        return sum(spent.seconds for spent in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """Return JSON: seconds, videos, busy seconds, and each stage's seconds, units and unit."""
        stages = {name: asdict(spent) for name, spent in self.stages.items()}
        return {"seconds": self.seconds, "videos": self.videos, "busy": self.busy, "stages": stages}

    def lines(self) -> Iterable[str]:
        """Return the lines of a table."""
        form = "{:<24} {:>10} {:>14} {:>18} {:>10}"
        yield form.format("stage", "busy s", f"% of {self.seconds:.1f} s", "amount", "per second")
        for name, spent in self.stages.items():
            rate = f"{spent.units / spent.seconds:.1f}" if spent.seconds else ""
            yield form.format(name, *self._share(spent.seconds), f"{spent.units:,} {spent.unit}", rate)
        rate = f"{self.videos / self.seconds:.2f}"
        yield form.format("total", *self._share(self.busy), f"{self.videos:,} videos", rate)

    def _share(self, seconds: float) -> tuple[str, str]:
        return f"{seconds:.1f}", f"{100 * seconds / self.seconds:.0f}"


class Stopwatch:
    """Collect a `Profile`; the clock runs from the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, Spent] = {}

    def add(self, spent: "Mapping[str, Spent]") -> None:
        """Add the work of stages."""
        for name, more in spent.items():
            self._stages[name] = self._stages[name] + more if name in self._stages else more

    def profile(self, videos: int) -> Profile:
        """Return the profile up to now, for `videos` videos."""
        return Profile(time.perf_counter() - self._start, videos, dict(self._stages))
