"""From files to features: decode | colour and size | flow | backbone, at work at the same time.

A video in flight is one call of `Line.run` in a thread of its own. Its frames come from a reader process; flow engines and
backbones are stages that all videos in flight share. Every step waits for the one after it: flow may be so many
chunks of frames behind the reader, a backbone a few clips behind flow. So memory does not grow with a video's length.
"""

import json
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wtal.extractors.backbone import Backbone
from wtal.extractors.choose import REFERENCE
from wtal.extractors.extractor import FLOW, Extracted, Extractor
from wtal.extractors.isolate import IsolatedVideo, ReaderProcess
from wtal.extractors.optical_flow import FlowMethod
from wtal.extractors.snippets import Windows
from wtal.extractors.stage import Stage
from wtal.extractors.timetable import Spent, TimeTable
from wtal.extractors.video import ReaderFailed

DECODE, COLOUR, FLOWS = "decode and size", "colour", "flow"
_CHUNKS_AHEAD = 2
"""Of a video's frames whose flow is not there yet."""


class Line:
    """Extractors that share their flow engines and reader processes, kept over many videos.

    `run` may be called from several threads at once, one video each. `times` says what every stage did.
    """

    def __init__(self, extractors: Sequence[Extractor], times: TimeTable | None = None) -> None:
        self.extractors = list(extractors)
        self.times = times or TimeTable()
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        self._readers: list[ReaderProcess] = []
        self._closed = False
        self._torch_threads = torch.get_num_threads()
        self._flows = {
            key: self._flow_stage(method)
            for key, method in {_flow_key(one): one.flow for one in extractors}.items()
            if method
        }
        self._backbones = {
            (number, stream): self._backbone_stage(one, stream)
            for number, one in enumerate(extractors)
            for stream in one.backbones
        }

    def run(self, path: Path, wanted: Sequence[int] = ()) -> list[Extracted]:
        """Features of one file by the extractors of these numbers (none: all), which see the same frames.

        Where `auto` chose a reader that then fails, the file is read again from its start by the reference, and
        `info` says so: no video mixes two readers.

        Raises:
            VideoError: when the file cannot be read, or its reader hangs or dies.
            CancelledError: when the line is closed meanwhile.
        """
        numbers = list(wanted) or list(range(len(self.extractors)))
        try:
            return self._read(path, numbers, self.extractors[numbers[0]].spec.reader, None)
        except ReaderFailed as error:
            return self._read(path, numbers, REFERENCE, str(error))

    def close(self) -> None:
        """Stop what is in flight, and end all reader processes."""
        self._closed = True
        for reader in self._readers:
            reader.close()
        for stage in (*self._flows.values(), *self._backbones.values()):
            stage.close()
        torch.set_num_threads(self._torch_threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path, numbers: Sequence[int], reader: str, why: str | None) -> list[Extracted]:
        extractors = [self.extractors[number] for number in numbers]
        with self._reader_process() as process, extractors[0].open(process, path, reader, why) as video:
            features = self._features(numbers, self._frames(video))
            summary = video.summary
        return [one.made(streams, summary) for one, streams in zip(extractors, features, strict=True)]

    def _frames(self, video: IsolatedVideo) -> Iterator[NDArray[np.uint8]]:
        count = 0
        for frames in video:
            count += len(frames)
            yield frames
        self.times.add(DECODE, Spent(video.seconds, count, "frames"))

    def _features(
        self, numbers: Sequence[int], chunks: Iterator[NDArray[np.uint8]]
    ) -> list[dict[str, NDArray[Any]]]:
        """Chunks of frames (n, H, W, 3) -> {stream: (T, D)} of each extractor."""
        makers = {
            number: {
                stream: _Features(self._backbones[number, stream], self.extractors[number], stream)
                for stream in self.extractors[number].backbones
            }
            for number in numbers
        }
        pixels = [streams[name] for streams in makers.values() for name in streams if name != FLOW]
        flows = {
            key: _Flow(stage, self.times, [makers[n][FLOW] for n in numbers if _flow_key(self.extractors[n]) == key])
            for key, stage in self._flows.items()
        }
        used = [flow for flow in flows.values() if flow.takers]
        for frames in chunks:
            for flow in used:
                flow.push(frames)
            for maker in pixels:
                maker.push(frames)
        for step in (*(flow.finish for flow in used), *(maker.end for maker in pixels)):
            step()
        return [{name: maker.features() for name, maker in makers[number].items()} for number in numbers]

    @contextmanager
    def _reader_process(self) -> Iterator[ReaderProcess]:
        """A reader process that nobody else uses now."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = ReaderProcess()
            self._readers.append(process)
        try:
            yield process
        except Exception:
            if self._closed:
                raise CancelledError from None
            raise
        finally:
            self._idle.put(process)

    def _flow_stage(self, method: FlowMethod) -> Stage:
        threads = self.extractors[0].threads
        engines = [_stacked(method.new()) for _ in range(threads)]
        return Stage(FLOWS, "pairs", engines, self.times)

    def _backbone_stage(self, extractor: Extractor, stream: str) -> Stage:
        spec, replicas = extractor.spec, extractor.replicas[stream]
        threads = 1 if replicas[0].side_by_side else extractor.threads
        workers = replicas * (extractor.threads if replicas[0].side_by_side else 1)
        return Stage(
            f"{extractor.name} {stream}",
            "snippets",
            [_extraction(replica, spec.crops) for replica in workers],
            self.times,
            joined=spec.batch if extractor.joins else 0,
            waiting=spec.batch * len(workers),
            begin=lambda: torch.set_num_threads(threads),
        )


class _Features:
    """One stream of one video for one extractor: frames or flows in, clips to the backbone, features out."""

    def __init__(self, stage: Stage, extractor: Extractor, stream: str) -> None:
        spec, backbone = extractor.spec, extractor.backbones[stream]
        self._stage, self._dim, self._dtype = stage, backbone.dim, np.dtype(spec.dtype)
        self._windows = Windows(extractor.stride, backbone.span, spec.tail, spec.batch)
        self._rows: list[Future[NDArray[Any]]] = []

    def push(self, frames: NDArray[Any]) -> None:
        """(n, H, W, C), the next frames or flows; it waits while the backbone is behind."""
        self._rows += [self._stage.submit(clips) for _, clips in self._windows.push(frames)]

    def end(self) -> None:
        """No more frames come."""
        self._rows += [self._stage.submit(clips) for _, clips in self._windows.finish()]

    def features(self) -> NDArray[Any]:
        """(T, D), when they are there."""
        rows = [row.result().astype(self._dtype) for row in self._rows]
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), self._dtype)


class _Flow:
    """One video's optical flow by one method, for all who take it.

    Flow j goes from frame j to frame j + 1, across chunks and snippets; the last is repeated, so that N frames have N
    flows, and a video of one frame has zero flow.
    """

    def __init__(self, stage: Stage, times: TimeTable, takers: Sequence[_Features]) -> None:
        self.takers = takers
        self._stage, self._times = stage, times
        self._before: NDArray[np.uint8] | None = None
        self._pending: deque[list[Future[NDArray[Any]]]] = deque()
        self._last: NDArray[Any] | None = None

    def push(self, frames: NDArray[np.uint8]) -> None:
        """(n, H, W, 3) uint8 RGB, the next frames; it waits while too many of those before have no flow yet."""
        with self._times.busy(COLOUR, len(frames), "frames"):
            grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[None].astype(np.uint8, copy=False) for frame in frames]
        line = grays if self._before is None else [self._before, *grays]
        self._pending.append([self._stage.submit(*pair) for pair in zip(line, line[1:], strict=False)])
        self._before = line[-1] if line else None
        self._settle(_CHUNKS_AHEAD)

    def finish(self) -> None:
        """No more frames come: the last flow stands in for the last frame's."""
        self._settle(0)
        if self._before is not None:
            last = np.zeros((*self._before.shape, 2), np.float32) if self._last is None else self._last
            self._give(last)
        for taker in self.takers:
            taker.end()

    def _settle(self, left: int) -> None:
        """Hand on flows, in order, until at most `left` chunks wait for theirs."""
        while len(self._pending) > left:
            if flows := [flow.result() for flow in self._pending.popleft()]:
                self._last = flows[-1]
                self._give(np.concatenate(flows))

    def _give(self, flows: NDArray[Any]) -> None:
        for taker in self.takers:
            taker.push(flows)


def _flow_key(extractor: Extractor) -> str:
    return json.dumps(extractor.flow.identity, sort_keys=True) if extractor.flow else ""


def _extraction(backbone: Backbone, crops: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda clips: backbone.extract(clips, crops)


def _stacked(engine):
    return lambda first, second: engine(first[0], second[0])[None]
