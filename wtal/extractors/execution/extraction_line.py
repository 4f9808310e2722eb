"""From a video file to features: decode and scale | colour | flow | backbones, all working in parallel.

A video in flight is one call of `ExtractionLine.run` in its own thread. Its frames come from a reader process; flow
engines and backbones are stages shared by all videos in flight. Every step waits for the next one, so memory does not
grow with a video's length: flow may lag the reader by some chunks of frames, a backbone may lag flow by a few clips.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wtal.errors import VideoError
from wtal.extractors.decoding.isolated import IsolatedVideo, ReaderPool
from wtal.extractors.decoding.reader import VideoInfo, VideoSummary
from wtal.extractors.execution.extractor import FLOW, Extracted, Extractor
from wtal.extractors.execution.jobs import FlowJob, StreamJob
from wtal.extractors.execution.stage_times import Spent, TimeTable
from wtal.extractors.execution.video_pass import FrameSink, StreamFeatures, VideoFlow
from wtal.extractors.execution.worker_stage import Crew, Stage
from wtal.heap import Trimmer, share_arenas

DECODE, FLOWS = "decode and size", "flow"


class ExtractionLine(AbstractContextManager["ExtractionLine"]):
    """Extractors with their stages and reader processes, kept across many videos, until it is closed.

    `run` may be called from several threads at once, one video each. `times` holds the timing of every stage.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        self.extractors = list(extractors)
        self.times = TimeTable()
        self._readers = ReaderPool()
        share_arenas(self.extractors[0].threads)
        self._trim = Trimmer()
        self._jobs = [extractor.jobs() for extractor in extractors]
        self._flow_jobs = [extractor.flow_job() for extractor in extractors]
        flow_jobs = {job.key: job for job in self._flow_jobs if job}
        with ExitStack() as opened:
            opened.enter_context(_restored(cv2.getNumThreads, cv2.setNumThreads))
            by_torch = [bool(job.joined) for job in flow_jobs.values()]
            by_torch += [job.by_torch for jobs in self._jobs for job in jobs.values()]
            if any(by_torch):
                import torch

                opened.enter_context(_restored(torch.get_num_threads, torch.set_num_threads))
            # Pairs and clips already run in parallel; within one of them OpenCV takes no second core.
            cv2.setNumThreads(1)
            self._cores = opened.enter_context(Crew(self.extractors[0].threads))
            self._flows = {key: opened.enter_context(self._flow_stage(job)) for key, job in flow_jobs.items()}
            self._backbones = {
                (number, stream): opened.enter_context(self._backbone_stage(job))
                for number, jobs in enumerate(self._jobs)
                for stream, job in jobs.items()
            }
            self._stages = opened.pop_all()

    def run(self, path: Path, numbers: Sequence[int] = ()) -> list[Extracted | VideoError]:
        """Extract features of one file with the extractors of these numbers (none: all), which use the same frames.

        An error in place of features concerns only that extractor.

        Raises:
            VideoError: when the file cannot be read, its reader hangs or dies, or an engine or a network fails.
            CancelledError: when the line is closed in the meantime.
        """
        numbers = list(numbers) or list(range(len(self.extractors)))
        try:
            return self._extract(path, numbers)
        except (RuntimeError, ValueError, MemoryError, cv2.error) as error:
            raise VideoError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error

    def rehearse(self, path: Path, count: int) -> None:
        """Extract from the first `count` frames of a file with all extractors, to time the stages.

        Raises:
            VideoError: when these frames cannot be read.
        """
        source = self.extractors[0].source
        with self._readers.borrow() as process, source.open(process, path) as video:
            self._features(range(len(self.extractors)), _first(self._frames(video), count))

    def headers(self, path: Path) -> VideoInfo:
        """Read the headers of a file, without decoding it.

        Raises:
            VideoError: when the file cannot be opened.
        """
        with self._readers.borrow() as process:
            return process.headers(path, self.extractors[0].source.time_limit)

    def groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """Group numbers of extractors: those that use the same frames share a pass."""
        sources = dict.fromkeys(self.extractors[number].source for number in numbers)
        return [[number for number in numbers if self.extractors[number].source == source] for source in sources]

    def close(self) -> None:
        """Stop the videos in flight, and end all reader processes."""
        self._readers.close()
        self._stages.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _extract(self, path: Path, numbers: Sequence[int]) -> list[Extracted | VideoError]:
        source = self.extractors[numbers[0]].source
        with self._readers.borrow() as process, source.open(process, path) as video:
            features = self._features(numbers, self._frames(video))
            summary = video.summary
        return [
            _assembled(self.extractors[number], streams, summary)
            for number, streams in zip(numbers, features, strict=True)
        ]

    def _frames(self, video: IsolatedVideo) -> Iterator[NDArray[np.uint8]]:
        """Yield chunks of frames (n, H, W, 3), adding their decoding to the timing table."""
        reported = 0.0
        for frames in video:
            self.times.add(DECODE, Spent(video.seconds - reported, len(frames), "frames"))
            reported = video.seconds
            self._trim()
            yield frames

    def _features(self, numbers: Sequence[int], chunks: Iterable[NDArray[np.uint8]]) -> list[dict[str, NDArray[Any]]]:
        """Map chunks of frames (n, H, W, 3) -> {stream: (T, D)} for each extractor."""
        features = {
            number: {
                stream: StreamFeatures(self._backbones[number, stream], job)
                for stream, job in self._jobs[number].items()
            }
            for number in numbers
        }
        flow_streams: dict[str, list[StreamFeatures]] = {}
        for number in numbers:
            if job := self._flow_jobs[number]:
                flow_streams.setdefault(job.key, []).append(features[number][FLOW])
        sinks: list[FrameSink] = [
            VideoFlow(self._flows[key], self.times, streams, self._readers.in_use)
            for key, streams in flow_streams.items()
        ]
        sinks += [streams[name] for streams in features.values() for name in streams if name != FLOW]
        for frames in chunks:
            for sink in sinks:
                sink.push(frames)
        for sink in sinks:
            sink.end()
        return [{name: stream.result() for name, stream in features[number].items()} for number in numbers]

    def _flow_stage(self, job: FlowJob) -> Stage:
        if job.joined:
            begin = partial(_set_torch_threads, job.threads)
            return Stage(FLOWS, "pairs", job.engines(), self.times, joined=job.joined, begin=begin)
        return Stage(FLOWS, "pairs", job.engines(), self.times, crew=self._cores)

    def _backbone_stage(self, job: StreamJob) -> Stage:
        return Stage(
            job.stage,
            "snippets",
            job.workers,
            self.times,
            joined=job.joined,
            waiting=job.waiting,
            crew=None if job.joined else self._cores,
            needs=job.threads,
            begin=partial(_set_torch_threads, job.threads) if job.by_torch else lambda: None,
        )


@contextmanager
def _restored(number: Callable[[], int], restore: Callable[[int], object]) -> Iterator[None]:
    """Restore a library's number of threads after the block."""
    before = number()
    try:
        yield
    finally:
        restore(before)


def _set_torch_threads(count: int) -> None:
    """Set torch's threads for this thread; a thread that never set them inherits the last number set by any."""
    import torch

    torch.get_num_threads()
    torch.set_num_threads(count)


def _first(chunks: Iterable[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks (n, H, W, 3), truncated to `count` frames in total."""
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


def _assembled(
    extractor: Extractor, features: dict[str, NDArray[Any]], summary: VideoSummary
) -> Extracted | VideoError:
    try:
        return extractor.assemble(features, summary)
    except VideoError as error:
        return error
