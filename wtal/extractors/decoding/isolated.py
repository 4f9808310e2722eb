"""Decode in a process of its own, so that a reader that hangs or crashes costs one video and not the batch."""

import contextlib
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from wtal.errors import VideoError, WtalError
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.decoding.reader import Image, ReaderFailed, VideoInfo, VideoSummary
from wtal.extractors.decoding.reader_process import Beat, Opened, Request, Worked

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from wtal.extractors.decoding.reader_process import main; main()"
_PIPE_BYTES = 1 << 20


class Closing:
    """`with` ends in `close`."""

    def close(self) -> None:
        """Give back what is held; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ReaderProcess(Closing):
    """A process that decodes one video after another; made on first use, and anew after it was killed.

    It is started as a plain program, never forked, so that scripts without a `__main__` guard can use it. It ends
    with `close`, and by itself when its parent dies, however that happens. Not to be shared between threads.
    """

    def __init__(self) -> None:
        self._child: _Child | None = None

    def open(
        self,
        path: Path,
        fps: Fraction,
        size: FrameSize,
        reader: str = "auto",
        time_limit: float = 60.0,
        why: str | None = None,
    ) -> "IsolatedVideo":
        """Start decoding `path` to `fps` frames per second, scaled to `size`; the frames come by iterating.

        The reader has `time_limit` seconds for each next frame. `why` is noted as the reason for the reader, where
        the caller has a better one than that it was asked for.

        Raises:
            UsageError: when there is no reader of that name.
            ReaderFailed: when the reader that `auto` chose does not open the file.
            VideoError: when the file cannot be read, or the process hangs or dies.
        """
        return self._ask(Request(path, fps, size, reader), time_limit, why)

    def headers(self, path: Path, time_limit: float = 60.0) -> VideoInfo:
        """What the headers of a file say.

        Raises:
            VideoError: when it cannot be opened, or the process hangs or dies.
        """
        video = self._ask(
            Request(path, Fraction(1), FrameSize(1, enlarge=False), "auto", frames=False), time_limit, None
        )
        video._busy = False
        return video.info

    def _ask(self, request: Request, time_limit: float, why: str | None) -> "IsolatedVideo":
        self._child = self._child or _Child()
        video = IsolatedVideo(self, self._child, time_limit, why)
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


class IsolatedVideo(Closing):
    """Iterate once for chunks (n, H, W, 3) uint8 RGB, at most 32 frames or 16 MiB (or one frame); then `summary`.

    `info` is what the headers say, `reader` who decodes. Closing before the end kills the reader process, which is
    replaced for the next video. Iterating raises `ReaderFailed` when the reader that `auto` chose fails: start again
    with `reader="pyav", why=str(error)`; and `VideoError` when the video cannot be used, the reader hangs or dies.
    """

    info: VideoInfo
    reader: str

    def __init__(self, owner: ReaderProcess, child: "_Child", time_limit: float, why: str | None) -> None:
        self._owner = owner
        self._child = child
        self._time_limit = time_limit
        self._why = why
        self._busy = True
        self._can_retry = False
        self._name = "the reader process"
        self._summary: VideoSummary | None = None
        self.seconds = 0.0
        """Decoding and scaling took so long for the chunks that have come."""

    @property
    def summary(self) -> VideoSummary:
        """What decoding found.

        Raises:
            ValueError: when not all chunks were taken yet.
        """
        if self._summary is None:
            raise ValueError("the summary is known only after the last chunk")
        return self._summary

    def __iter__(self) -> Iterator[Image]:
        while self._busy:
            message = self._receive()
            if isinstance(message, VideoSummary):
                self._summary = message if self._why is None else replace(message, why=self._why)
                self._busy = False
            elif isinstance(message, Worked):
                self.seconds = message.seconds
            elif isinstance(message, np.ndarray):
                yield message

    def close(self) -> None:
        """End decoding; after the last chunk this does nothing."""
        if self._busy:
            self._busy = False
            self._owner.close()

    def _start(self, request: Request) -> None:
        self._child.send(request)
        opened = self._receive()
        assert isinstance(opened, Opened)
        self.info, self.reader, self._can_retry = opened.info, opened.reader, opened.can_retry
        self._name = f"reader {opened.reader}"

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
        return ReaderFailed(f"auto: the reference, after {reason}") if self._can_retry else VideoError(reason)


class _Child:
    """One running reader process and the pipes to it."""

    def __init__(self) -> None:
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            pipesize=_PIPE_BYTES,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: Request) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead, as `receive` will find
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()

    def receive(self, time_limit: float) -> Any:
        """The next message that is more than a sign of life; a clock beside it kills the process when it is late."""
        while True:
            message = self._receive_any(time_limit)
            if not isinstance(message, Beat):
                return message

    def _receive_any(self, time_limit: float) -> Any:
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(time_limit, end)
        clock.start()
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            clock.cancel()

    def cause_of_death(self) -> str:
        """Words for how the process ended, after it closed its side of the pipe."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        return f"ended with exit code {code}: {lines[-1] if lines else 'no message'}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._noise):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
