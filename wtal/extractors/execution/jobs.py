"""The work that an extractor gives to an extraction line: one job per stream, and one for its optical flow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from wtal.extractors.execution.windows import Windows
from wtal.extractors.optical_flow import FlowEngine, FlowMethod

ClipFunction = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class StreamJob:
    """How frames, or flow, of one stream become features.

    `stage` names the work in timing tables. For each video `windows` makes what cuts its frames into clips, which
    `prepare`, in the video's own thread, makes ready for any of the `workers`: (n, ...) -> (n, D). A worker runs with
    `threads` threads of torch. `waiting` clips may queue for them; with `joined` above 0 clips of
    several videos run together, up to so many. Features are stored as `dtype`.
    """

    stage: str
    windows: Callable[[], Windows]
    dim: int
    dtype: str
    workers: tuple[ClipFunction, ...]
    prepare: ClipFunction = lambda clips: clips
    threads: int = 1
    joined: int = 0
    waiting: int | None = None


@dataclass(frozen=True)
class FlowJob:
    """How frames become optical flow: a method for each device, and threads for one whose engines work side by side.

    Extractors with equal `key` share the flow.
    """

    key: str
    methods: tuple[FlowMethod, ...]
    threads: int

    @property
    def joined(self) -> int:
        """Pairs of several videos that run together; 0 where engines work side by side, each on its own pairs."""
        most = max(method.pairs for method in self.methods)
        return most if most > 1 else 0

    def engines(self) -> list[FlowEngine]:
        """Return fresh engines: one per device for a method that fills one, else one per thread, all on the CPU."""
        methods = self.methods if self.joined else self.methods[:1]
        return [engine for method in methods for engine in method.engines(self.threads)]
