"""Where a call of extraction spent its time, as a table and as JSON."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtal.extractors.execution.stage_times import Spent


@dataclass(frozen=True)
class Profile:
    """Seconds that went by, videos, and what each stage did, summed over threads and processes.

    The stages work at the same time: what their seconds exceed those that went by was won by that.
    """

    seconds: float
    videos: int
    stages: "dict[str, Spent]"

    @property
    def busy(self) -> float:
        """Seconds that all stages worked."""
        return sum(spent.seconds for spent in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """JSON: seconds, videos, busy seconds, and each stage's seconds, units and unit."""
        stages = {name: asdict(spent) for name, spent in self.stages.items()}
        return {"seconds": self.seconds, "videos": self.videos, "busy": self.busy, "stages": stages}

    def lines(self) -> Iterable[str]:
        """A table for a person."""
        form = "{:<24} {:>10} {:>14} {:>18} {:>10}"
        yield form.format("stage", "s at work", f"% of {self.seconds:.1f} s", "amount", "a second")
        for name, spent in self.stages.items():
            rate = f"{spent.units / spent.seconds:.1f}" if spent.seconds else ""
            yield form.format(name, *self._share(spent.seconds), f"{spent.units:,} {spent.unit}", rate)
        rate = f"{self.videos / self.seconds:.2f}"
        yield form.format("together", *self._share(self.busy), f"{self.videos:,} videos", rate)

    def _share(self, seconds: float) -> tuple[str, str]:
        return f"{seconds:.1f}", f"{100 * seconds / self.seconds:.0f}"


class Stopwatch:
    """Gathers a `Profile`; it runs from the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, Spent] = {}

    def add(self, spent: "Mapping[str, Spent]") -> None:
        """What stages did somewhere."""
        for name, more in spent.items():
            self._stages[name] = self._stages[name] + more if name in self._stages else more

    def profile(self, videos: int) -> Profile:
        """All up to now, for so many videos."""
        return Profile(time.perf_counter() - self._start, videos, dict(self._stages))
