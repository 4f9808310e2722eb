"""Work of an extractor in an extraction line: one job per stream, and one for its optical flow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from wtal.extractors.execution.windows import Windows
from wtal.extractors.optical_flow import FlowEngine, FlowMethod

ClipFunction = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class StreamJob:
    """Conversion of the frames, or flow, of one stream to features.

    `stage` is its name in timing tables. For each video, `windows` creates the cutter of its frames into clips, which
    `prepare`, in the video's own thread, prepares for any of the `workers`: (n, ...) -> (n, D). A worker takes
    `threads` threads, torch's own if it is `by_torch`. `waiting` clips may queue for them; with `joined` above 0, up to
    that many clips of several videos run together. Features are stored as `dtype`.
    """

    stage: str
    windows: Callable[[], Windows]
    dim: int
    dtype: str
    workers: tuple[ClipFunction, ...]
    prepare: ClipFunction = lambda clips: clips
    by_torch: bool = True
    threads: int = 1
    joined: int = 0
    waiting: int | None = None


@dataclass(frozen=True)
class FlowJob:
    """Conversion of frames to flow: a method per device, and threads for one whose engines work in parallel.

    Extractors with equal `key` share the flow.
    """

    key: str
    methods: tuple[FlowMethod, ...]
    threads: int

    @property
    def joined(self) -> int:
        """Number of pairs of several videos that run together; 0 if engines work in parallel, each on its own pairs."""
        most = max(method.pairs for method in self.methods)
        return most if most > 1 else 0

    def engines(self) -> list[FlowEngine]:
        """Return fresh engines: one per device for a method that fills one, else one per thread, all on the CPU."""
        methods = self.methods if self.joined else self.methods[:1]
        return [engine for method in methods for engine in method.engines(self.threads)]
