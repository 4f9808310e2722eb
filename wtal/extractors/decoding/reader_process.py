"""The process that decodes videos for another one, which may kill it (`isolated.py`); it imports no torch.

Requests arrive on stdin and messages leave on stdout, each as a pickle: `Opened` once per video, then `Beat`s and
chunks of frames, each preceded by `Worked`, finally a `VideoSummary`; or, in place of any of these, the error that ends
the video. The pipe holds little, so decoding waits for the consumer of the chunks. The process ends when stdin does.
"""

import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wtal.errors import WtalError
from wtal.extractors.decoding.frame_size import FrameScaler, FrameSize, scaled_size
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader import Image, Picture, TimedFrame, VideoInfo, image_of
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import load_reader, read
from wtal.heap import keep_freed_memory

_CHUNK_FRAMES = 32
_CHUNK_BYTES = 16 << 20
_BEAT_SECONDS = 1.0
_SCALE = FrameScaler()

Send = Callable[[Any], None]


@dataclass(frozen=True)
class Request:
    """One video to decode: to `fps` frames per second, scaled to `size`, with the reader `reader`.

    With `frames` False it is only opened.
    """

    path: Path
    fps: Fraction
    size: FrameSize
    reader: str
    frames: bool = True


@dataclass(frozen=True)
class Opened:
    """The headers of a video, before its frames."""

    info: VideoInfo


@dataclass(frozen=True)
class Worked:
    """Seconds spent on decoding and scaling so far, excluding waits for the consumer."""

    seconds: float


@dataclass(frozen=True)
class Beat:
    """Heartbeat: frames keep coming, though no chunk is full yet."""


def main() -> None:
    """Serve requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Several videos are decoded in parallel; OpenCV, used for scaling, takes no second core for one of them.
    cv2.setNumThreads(1)
    keep_freed_memory()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()

    def send(message: Any) -> None:
        pickle.dump(message, stream, protocol=5)
        stream.flush()

    try:
        while True:
            _serve(requests.get(), send)
    except BrokenPipeError:
        os._exit(0)


def _listen(requests: "queue.SimpleQueue[Request]") -> None:
    """Pass on requests; at the end of stdin, which also comes when the parent is killed, end the process."""
    while True:
        try:
            requests.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            os._exit(0)


def _serve(request: Request, send: Send) -> None:
    try:
        info = probe(request.path)
        load_reader(request.reader)
        send(Opened(info))
        if not request.frames:
            return
        frames = read(info, request.reader)
        sampler = Sampler(_beating(frames, send), info, request.fps)
        _SCALE.expect(round((info.duration or 0) * request.fps))
        seconds, start = 0.0, time.perf_counter()
        for chunk in _chunks(sampler.pictures(), request.size):
            seconds += time.perf_counter() - start
            send(Worked(seconds))
            send(chunk)
            start = time.perf_counter()
        send(sampler.summary(request.reader))
    except WtalError as error:
        send(error)


def _beating(frames: Iterator[TimedFrame], send: Send) -> Iterator[TimedFrame]:
    last = time.monotonic()
    for frame in frames:
        if time.monotonic() - last > _BEAT_SECONDS:
            send(Beat())
            last = time.monotonic()
        yield frame


def _chunks(pictures: Iterator[Picture], size: FrameSize) -> Iterator[Image]:
    """Collect pictures of any size into (n, H, W, 3) uint8 arrays, all in one memory; the first one fixes H and W."""
    chunk = np.empty((0, 0, 0, 3), np.uint8)
    filled = 0
    previous: Picture | None = None
    for picture in pictures:
        if previous is None:
            chunk = _empty_chunk(*scaled_size(picture.shape[1], picture.shape[0], size))
        if filled == len(chunk):
            yield chunk
            filled = 0
        if picture is previous:
            chunk[filled] = chunk[filled - 1]
        else:
            chunk[filled] = _SCALE(image_of(picture), (chunk.shape[2], chunk.shape[1]))
        previous = picture
        filled += 1
    yield chunk[:filled]


def _empty_chunk(width: int, height: int) -> Image:
    frames = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // (3 * width * height)))
    return np.empty((frames, height, width, 3), np.uint8)
