"""One video file -> snippet features: one decode pass feeds flow and every stream of a backbone."""

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid, TailPolicy
from wtal.errors import UsageError, VideoError
from wtal.extractors.backbone import Backbone, create_backbone
from wtal.extractors.choose import REFERENCE, reader_identity
from wtal.extractors.isolate import ReaderProcess
from wtal.extractors.optical_flow import FlowMethod, create_flow
from wtal.extractors.snippets import Flows, Windows
from wtal.extractors.video import ReaderFailed
from wtal.registry import BACKBONES, suggest

RGB, FLOW = "rgb", "flow"


@dataclass(frozen=True)
class ExtractorSpec:
    """All that says how features are made; picklable, so that it can travel to workers.

    Empty `streams`, empty `flow` and zero `stride` take the backbone's own. `weights` holds (stream, source) pairs.
    `time_limit` is how many seconds a reader may go without a frame.
    """

    backbone: str
    streams: tuple[str, ...] = ()
    flow: str = ""
    fps: Fraction = Fraction(25)
    stride: int = 0
    tail: TailPolicy = "pad"
    reader: str = "auto"
    dtype: str = "float32"
    weights: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"
    threads: int = 0
    batch: int = 4
    time_limit: float = 60.0


@dataclass(frozen=True)
class Extracted:
    """Features of one video: `streams` holds (T, D) arrays on `grid`; `info` says how it was read."""

    grid: SnippetGrid
    streams: dict[str, NDArray[Any]]
    info: dict[str, Any] = field(default_factory=dict)


class Extractor:
    """A backbone for each stream, a flow method and a reader process, kept over many videos.

    Raises:
        UsageError: when a name in the spec is unknown.
        WeightsError: when weights are missing, damaged, or do not fit.
    """

    def __init__(self, spec: ExtractorSpec) -> None:
        self.spec = spec
        module = BACKBONES.load(spec.backbone)
        names = spec.streams or tuple(module.STREAMS)
        _refuse_unknown_streams(names, spec.weights, tuple(module.STREAMS))
        weights = dict(spec.weights)
        self.backbones: dict[str, Backbone] = {
            name: create_backbone(spec.backbone, name, weights.get(name)).to(spec.device) for name in names
        }
        first = next(iter(self.backbones.values()))
        self.span, self.size = first.span, first.size
        self.stride = spec.stride or int(module.STRIDE)
        self.flow: FlowMethod | None = create_flow(spec.flow or module.FLOW) if FLOW in names else None
        self.threads = spec.threads or os.cpu_count() or 1
        self._reader = ReaderProcess()
        if spec.device.startswith("cuda"):
            # TF32 moves features by a thousandth against the CPU: speed is not worth other numbers.
            torch.backends.cudnn.allow_tf32 = False

    @property
    def identity(self) -> dict[str, Any]:
        """JSON: all that can change a number of the features."""
        return {
            "backbone": self.spec.backbone,
            "weights": {name: backbone.identity for name, backbone in self.backbones.items()},
            "flow": None if self.flow is None else self.flow.identity,
            "reader": reader_identity(self.spec.reader),
            "fps": str(self.spec.fps),
            "stride": self.stride,
            "span": self.span,
            "tail": self.spec.tail,
            "size": {"short_side": self.size.short_side, "enlarge": self.size.enlarge},
            "dtype": self.spec.dtype,
        }

    @property
    def readable(self) -> str:
        """The part of a store's name that a person can read, e.g. `i3d-rgb_imagenet-flow_imagenet-16x16@25`."""
        streams = "" if len(self.backbones) > 1 else f"-{next(iter(self.backbones))}"
        tags = dict.fromkeys(_tag(source) for name, source in self.spec.weights if name in self.backbones)
        weights = "".join(f"-{tag}" for tag in tags)
        rate = str(self.spec.fps).replace("/", ":")
        return f"{self.spec.backbone}{weights}{streams}-{self.span}x{self.stride}@{rate}"

    def __call__(self, path: Path) -> Extracted:
        """Features of one file.

        Where `auto` chose a reader that then fails, the file is read again from its start by the reference, and
        `info` says so: no video mixes two readers.

        Raises:
            VideoError: when it cannot be read, or its reader hangs or dies.
        """
        try:
            return self._read(path, self.spec.reader, None)
        except ReaderFailed as error:
            return self._read(path, REFERENCE, str(error))

    def _read(self, path: Path, reader: str, why: str | None) -> Extracted:
        limit = self.spec.time_limit
        with (
            ThreadPoolExecutor(self.threads) as pool,
            self._reader.open(path, self.spec.fps, self.size, reader, limit, why) as video,
        ):
            features = self._features(video, pool)
            summary = video.summary
        grid = SnippetGrid(self.spec.fps, summary.frames, Fraction(self.stride), self.span, self.spec.tail)
        for name, array in features.items():
            if not np.isfinite(array).all():
                raise VideoError(f"stream {name} has features that are not finite; is the checkpoint sound?")
            if len(array) != grid.num_snippets:
                raise VideoError(f"stream {name} has {len(array)} snippets, the grid {grid.num_snippets}")
        return Extracted(grid, features, summary.to_json())

    def close(self) -> None:
        """End the reader process."""
        self._reader.close()

    def _features(self, chunks: Iterable[NDArray[np.uint8]], pool: Executor) -> dict[str, NDArray[Any]]:
        """Chunks of frames (n, H, W, 3) -> {stream: (T, D)}."""
        streams = {name: _Stream(backbone, self, pool) for name, backbone in self.backbones.items()}
        flows = Flows([self.flow.new() for _ in range(self.threads)], pool) if self.flow else None
        inside = 1 if all(backbone.side_by_side for backbone in self.backbones.values()) else self.threads
        with _torch_threads(inside):
            for frames in chunks:
                if RGB in streams:
                    streams[RGB].push(frames)
                if flows is not None:
                    streams[FLOW].push(flows.push(frames))
            if flows is not None:
                streams[FLOW].push(flows.finish())
            return {name: stream.finish() for name, stream in streams.items()}


class _Stream:
    """One stream's frames or flows on their way through windows and backbone; at most `ahead` batches wait."""

    def __init__(self, backbone: Backbone, extractor: Extractor, pool: Executor) -> None:
        spec = extractor.spec
        self.backbone, self.dtype, self.pool = backbone, np.dtype(spec.dtype), pool
        self.windows = Windows(extractor.stride, backbone.span, spec.tail, spec.batch)
        self.ahead = 2 * extractor.threads if backbone.side_by_side else 0
        self.waiting: deque[Future[NDArray[Any]]] = deque()
        self.rows: list[NDArray[Any]] = []

    def push(self, frames: NDArray[Any]) -> None:
        for _, clips in self.windows.push(frames):
            self._take(clips)

    def finish(self) -> NDArray[Any]:
        for _, clips in self.windows.finish():
            self._take(clips)
        self._settle(0)
        return np.concatenate(self.rows) if self.rows else np.zeros((0, self.backbone.dim), self.dtype)

    def _take(self, clips: NDArray[Any]) -> None:
        if self.ahead:
            self.waiting.append(self.pool.submit(self.backbone.extract, clips))
            self._settle(self.ahead)
        else:
            self.rows.append(self.backbone.extract(clips).astype(self.dtype))

    def _settle(self, left: int) -> None:
        """Wait, in order, until at most `left` batches are open."""
        while len(self.waiting) > left:
            self.rows.append(self.waiting.popleft().result().astype(self.dtype))


def _tag(source: str) -> str:
    """Weights in a store's name: the file's name, or `random0`."""
    name = source.replace(":", "") if source.startswith("random:") else Path(source).stem
    return "".join(c if c.isalnum() or c in "._" else "_" for c in name)


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_unknown_streams(
    names: tuple[str, ...], weights: tuple[tuple[str, str], ...], known: tuple[str, ...]
) -> None:
    for name in (*names, *(stream for stream, _ in weights)):
        if name not in known:
            raise UsageError(f"the backbone has no stream {name!r}; {suggest(name, known)}")


def split_weights(given: Mapping[str, str] | tuple[str, ...], streams: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`[STREAM=]SOURCE` options -> (stream, source) pairs; a source without a stream is for all of them."""
    pairs: dict[str, str] = {}
    for text in given:
        stream, equals, source = text.partition("=")
        if equals and stream in streams:
            pairs[stream] = source
        else:
            pairs.update(dict.fromkeys(streams, text))
    return tuple(sorted(pairs.items()))
