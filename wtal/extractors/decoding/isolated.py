"""Decode in a separate process, so that a reader that hangs or crashes costs one video, not the batch."""

import contextlib
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wtal.errors import VideoError, WtalError
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.decoding.reader import REFERENCE, TIME_LIMIT, Image, VideoInfo, VideoSummary
from wtal.extractors.decoding.reader_process import Beat, Opened, Request, Worked

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from wtal.extractors.decoding.reader_process import main; main()"
_PIPE_BYTES = 1 << 20
_AHEAD: "list[_Child]" = []
"""Processes started in advance."""


class ReaderProcess(AbstractContextManager["ReaderProcess"]):
    """A process that decodes one video after another; started on first use, and restarted after being killed.

    It is started as a plain program, never forked, so that scripts without a `__main__` guard can use it. It ends with
    `close`, or when its parent dies, for whatever reason. Not to be shared between threads.
    """

    def __init__(self) -> None:
        self._child: _Child | None = None

    def open(
        self,
        path: Path,
        fps: Fraction,
        size: FrameSize,
        reader: str = REFERENCE,
        time_limit: float = TIME_LIMIT,
    ) -> "IsolatedVideo":
        """Start decoding `path` to `fps` frames per second, scaled to `size`; iterate for the frames.

        The reader has `time_limit` seconds for each next frame.

        Raises:
            UsageError: when the reader is unknown.
            VideoError: when the file cannot be read, or the process hangs or dies.
        """
        return self._ask(Request(path, fps, size, reader), time_limit)

    def headers(self, path: Path, time_limit: float = TIME_LIMIT) -> VideoInfo:
        """Read the headers of a file.

        Raises:
            VideoError: when it cannot be opened, or the process hangs or dies.
        """
        request = Request(path, Fraction(1), FrameSize(1, enlarge=False), REFERENCE, frames=False)
        video = self._ask(request, time_limit)
        video._busy = False
        return video.info

    def _ask(self, request: Request, time_limit: float) -> "IsolatedVideo":
        child = self._child  # read once: `close` in another thread may remove it
        if child is None:
            child = self._child = _ready_child()
        video = IsolatedVideo(self, child, time_limit)
        try:
            video._start(request)
        except WtalError:
            video.close()
            raise
        return video

    def close(self) -> None:
        """End the process; a later `open` starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def started_ahead() -> Iterator[None]:
    """Start a process while the block loads libraries; the next `ReaderProcess` that needs one uses it.

    If unused, it ends with the block.
    """
    child = _Child()
    _AHEAD.append(child)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # it is in use
            _AHEAD.remove(child)
            child.kill()


class ReaderPool:
    """Reader processes for the threads of one process, kept across many videos.

    After `close`, users get CancelledError.
    """

    def __init__(self) -> None:
        self._processes: list[ReaderProcess] = []
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[ReaderProcess]:
        """Lend a process that no other thread is using.

        Raises:
            CancelledError: when the pool is closed, before or meanwhile.
        """
        if self._closed:
            raise CancelledError
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = ReaderProcess()
            self._processes.append(process)
        try:
            yield process
        except (WtalError, OSError, ValueError, RuntimeError):
            # To its user, a process that is ended looks like a dead reader, a closed pipe or a stopped stage.
            if self._closed:
                raise CancelledError from None
            raise
        finally:
            self._idle.put(process)

    def in_use(self) -> int:
        """Return the number of processes on loan."""
        return len(self._processes) - self._idle.qsize()

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._processes:
            process.close()


class IsolatedVideo(AbstractContextManager["IsolatedVideo"]):
    """Iterator, for one pass, over chunks (n, H, W, 3) uint8 RGB, at most 32 frames or 16 MiB (or one frame).

    `info` holds the headers; `summary` is available at the end. Closing early kills the reader process, which is
    replaced for the next video. Iterating raises `VideoError` if the video cannot be used, or the reader hangs or dies.
    """

    info: VideoInfo

    def __init__(self, owner: ReaderProcess, child: "_Child", time_limit: float) -> None:
        self._owner = owner
        self._child = child
        self._time_limit = time_limit
        self._busy = True
        self._name = "the reader process"
        self._summary: VideoSummary | None = None
        self.seconds = 0.0
        """Seconds spent on decoding and scaling the chunks so far."""

    @property
    def summary(self) -> VideoSummary:
        """Report on the decoding.

        Raises:
            ValueError: when some chunks have not been taken yet.
        """
        if self._summary is None:
            raise ValueError("the summary is available only after the last chunk")
        return self._summary

    def __iter__(self) -> Iterator[Image]:
        while self._busy:
            message = self._receive()
            if isinstance(message, VideoSummary):
                self._summary = message
                self._busy = False
            elif isinstance(message, Worked):
                self.seconds = message.seconds
            elif isinstance(message, np.ndarray):
                yield message

    def close(self) -> None:
        """End decoding; after the last chunk this has no effect."""
        if self._busy:
            self._busy = False
            self._owner.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self, request: Request) -> None:
        self._child.send(request)
        opened = self._receive()
        assert isinstance(opened, Opened)
        self.info = opened.info
        self._name = f"reader {request.reader}"

    def _receive(self) -> Any:
        try:
            message = self._child.receive(self._time_limit)
        except TimeoutError:
            raise self._lost(f"{self._name} gave no frame for {self._time_limit:g} s") from None
        except (EOFError, pickle.UnpicklingError):
            raise self._lost(f"{self._name} {self._child.cause_of_death()}") from None
        if isinstance(message, WtalError):
            self._busy = False
            raise message
        return message

    def _lost(self, reason: str) -> VideoError:
        self.close()
        return VideoError(reason)


def _ready_child() -> "_Child":
    try:
        return _AHEAD.pop()
    except IndexError:
        return _Child()


class _Child:
    """One running reader process and the pipes to it."""

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pipesize=_PIPE_BYTES,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: Request) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead, as `receive` will detect
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()

    def receive(self, time_limit: float) -> Any:
        """Return the next message other than a heartbeat; a timer kills the process when it is late."""
        while True:
            message = self._receive_any(time_limit)
            if not isinstance(message, Beat):
                return message

    def _receive_any(self, time_limit: float) -> Any:
        assert self._process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(time_limit, kill)
        timer.start()
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def cause_of_death(self) -> str:
        """Describe how the process ended, after it closed its side of the pipe."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"ended with exit code {code}: {lines[-1] if lines else 'no message'}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
