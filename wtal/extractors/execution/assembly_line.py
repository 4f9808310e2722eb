"""From files to features: decode | colour and size | flow | backbone, at work at the same time.

A video in flight is one call of `Line.run` in a thread of its own. Its frames come from a reader process; flow engines
and backbones are stages that all videos in flight share. Every step waits for the one after it: flow may be so many
chunks of frames behind the reader, a backbone a few clips behind flow. So memory does not grow with a video's length.
"""

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wtal.errors import VideoError
from wtal.extractors.decoding.isolated import Closing, IsolatedVideo, ReaderProcess
from wtal.extractors.decoding.reader import ReaderFailed, VideoInfo, VideoSummary
from wtal.extractors.decoding.reader_choice import REFERENCE
from wtal.extractors.execution.extractor import FLOW, Extracted, Extractor
from wtal.extractors.execution.stage_times import Spent, TimeTable
from wtal.extractors.execution.video_pass import Features, Flow
from wtal.extractors.execution.worker_stage import Cores, Stage
from wtal.heap import Trimmer

DECODE, FLOWS = "decode and size", "flow"


class Line(Closing):
    """Extractors that share their flow engines and reader processes, kept over many videos, until it is closed.

    `run` may be called from several threads at once, one video each. `times` says what every stage did.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        self.extractors = list(extractors)
        self.times = TimeTable()
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        self._readers: list[ReaderProcess] = []
        self._closed = False
        self._trim = Trimmer()
        self._in_flight, self._change = 0, threading.Lock()
        self._cores = Cores(self.extractors[0].threads)
        with_flow = {_flow_key(one): one for one in extractors if one.flows}
        with ExitStack() as opened:
            opened.enter_context(_threads_as_before())
            # Pairs and clips go side by side already; within one of them OpenCV takes no second core.
            cv2.setNumThreads(1)
            self._flows = {key: opened.enter_context(self._flow_stage(one)) for key, one in with_flow.items()}
            self._backbones = {
                (number, stream): opened.enter_context(self._backbone_stage(one, stream))
                for number, one in enumerate(extractors)
                for stream in one.backbones
            }
            self._stages = opened.pop_all()

    def run(self, path: Path, wanted: Sequence[int] = ()) -> list[Extracted | VideoError]:
        """Features of one file by the extractors of these numbers (none: all), which see the same frames.

        An error in place of features is of that extractor alone.

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
        except (RuntimeError, ValueError, MemoryError, cv2.error) as error:
            # Of an engine or a network: it costs this video, and is told as its failure.
            raise VideoError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error

    def rehearse(self, path: Path, frames: int) -> None:
        """Extract from the first so many frames of a file, which all extractors see alike, for the clock alone.

        Raises:
            VideoError: when the file cannot be read so far.
        """
        first = self.extractors[0]
        with self._reader_process() as process, first.open(process, path, first.spec.reader, None) as video:
            self._features(range(len(self.extractors)), _first(self._frames(video), frames))

    def headers(self, path: Path) -> VideoInfo:
        """What the headers of a file say, without decoding it.

        Raises:
            VideoError: when the file cannot be opened.
        """
        with self._reader_process() as process:
            return process.headers(path, self.extractors[0].spec.time_limit)

    def groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """Numbers of extractors, those together that see the same frames and so share a pass."""
        kinds = dict.fromkeys(self.extractors[number].frames for number in numbers)
        return [[number for number in numbers if self.extractors[number].frames == kind] for kind in kinds]

    def close(self) -> None:
        """Stop what is in flight, and end all reader processes."""
        self._closed = True
        for reader in self._readers:
            reader.close()
        self._stages.close()

    def _read(self, path: Path, numbers: Sequence[int], reader: str, why: str | None) -> list[Extracted | VideoError]:
        extractors = [self.extractors[number] for number in numbers]
        with self._reader_process() as process, extractors[0].open(process, path, reader, why) as video:
            features = self._features(numbers, self._frames(video))
            summary = video.summary
        return [_made(one, streams, summary) for one, streams in zip(extractors, features, strict=True)]

    def _frames(self, video: IsolatedVideo) -> Iterator[NDArray[np.uint8]]:
        told = 0.0
        for frames in video:
            self.times.add(DECODE, Spent(video.seconds - told, len(frames), "frames"))
            told = video.seconds
            self._trim()
            yield frames

    def _features(self, numbers: Sequence[int], chunks: Iterator[NDArray[np.uint8]]) -> list[dict[str, NDArray[Any]]]:
        """Chunks of frames (n, H, W, 3) -> {stream: (T, D)} of each extractor."""
        makers = {
            number: {
                stream: Features(
                    self._backbones[number, stream],
                    *self.extractors[number].cut(stream),
                    self.extractors[number].prepare(stream),
                )
                for stream in self.extractors[number].backbones
            }
            for number in numbers
        }
        pixels = [streams[name] for streams in makers.values() for name in streams if name != FLOW]
        flows = {
            key: Flow(
                stage,
                self.times,
                [makers[n][FLOW] for n in numbers if _flow_key(self.extractors[n]) == key],
                lambda: self._in_flight,
            )
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
        if self._closed:
            raise CancelledError
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = ReaderProcess()
            self._readers.append(process)
        self._count(1)
        try:
            yield process
        except Exception:
            if self._closed:
                raise CancelledError from None
            raise
        finally:
            self._count(-1)
            self._idle.put(process)

    def _count(self, more: int) -> None:
        with self._change:
            self._in_flight += more

    def _flow_stage(self, extractor: Extractor) -> Stage:
        many = max(method.pairs for method in extractor.flows)
        methods = extractor.flows if many > 1 else extractor.flows[:1]
        engines = [engine for method in methods for engine in method.engines(extractor.threads)]
        if many > 1:
            begin = partial(_threads_of_torch, extractor.threads)
            return Stage(FLOWS, "pairs", engines, self.times, joined=many, begin=begin)
        return Stage(FLOWS, "pairs", engines, self.times, cores=self._cores)

    def _backbone_stage(self, extractor: Extractor, stream: str) -> Stage:
        spec, replicas, joins = extractor.spec, extractor.replicas[stream], extractor.joins(stream)
        threads = 1 if replicas[0].side_by_side else extractor.threads
        # What has no parameters stays on the CPU, whatever the device: one copy is enough there.
        workers = replicas if joins else replicas[:1] * (extractor.threads if replicas[0].side_by_side else 1)
        return Stage(
            extractor.stage(stream),
            "snippets",
            [extractor.work(stream, replica) for replica in workers],
            self.times,
            joined=spec.batch if joins else 0,
            waiting=spec.batch * len(workers),
            cores=None if joins else self._cores,
            needs=threads,
            begin=lambda: _threads_of_torch(threads),
        )


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """After the block torch and OpenCV have the numbers of threads that they had before it."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _threads_of_torch(count: int) -> None:
    """For this thread, which asks first: a thread that has not takes the number of whoever set one last."""
    torch.get_num_threads()
    torch.set_num_threads(count)


def _first(chunks: Iterator[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    """Chunks (n, H, W, 3) up to so many frames."""
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


def _made(extractor: Extractor, streams: dict[str, NDArray[Any]], summary: VideoSummary) -> Extracted | VideoError:
    try:
        return extractor.made(streams, summary)
    except VideoError as error:
        return error


def _flow_key(extractor: Extractor) -> str:
    return json.dumps(extractor.flow.identity, sort_keys=True) if extractor.flow else ""
