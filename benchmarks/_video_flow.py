"""Optical flow of a whole video, for benchmarks of the steps that come after it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.video_pass import VideoFlow
from wtal.extractors.execution.worker_stage import Stage
from wtal.extractors.optical_flow import FlowMethod


def flows_of(frames: NDArray[np.uint8], method: FlowMethod, threads: int) -> NDArray[np.float32]:
    """Compute the flow of a whole video as extraction does: (N, H, W, 3) uint8 RGB -> (N, H, W, 2) float32 pixels."""
    times, collector = TimeTable(), _Collector()
    joined = method.pairs if method.pairs > 1 else 0
    with Stage("flow", "pairs", method.engines(threads), times, joined) as stage:
        flow = VideoFlow(stage, times, [collector])
        flow.push(frames)
        flow.end()
    return np.concatenate(collector.flows)


class _Collector:
    """Sink that keeps all flows pushed to it."""

    def __init__(self) -> None:
        self.flows: list[NDArray[Any]] = []

    def push(self, frames: NDArray[Any]) -> None:
        self.flows.append(frames)

    def end(self) -> None:
        pass
