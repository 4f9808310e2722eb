"""One video file -> snippet features: one decode pass feeds flow and every stream of one backbone, or of several."""

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid, TailPolicy
from wtal.errors import UsageError, VideoError
from wtal.extractors.backbone import CROPS, Backbone, create_backbone, full_name
from wtal.extractors.choose import REFERENCE, reader_identity
from wtal.extractors.isolate import IsolatedVideo, ReaderProcess
from wtal.extractors.optical_flow import FlowMethod, create_flow
from wtal.extractors.runtime import FLOAT32, TORCH, run_by
from wtal.extractors.snippets import Flows, Windows
from wtal.extractors.video import ReaderFailed, VideoSummary
from wtal.registry import BACKBONES, suggest

RGB, FLOW = "rgb", "flow"


@dataclass(frozen=True)
class ExtractorSpec:
    """All that says how features are made; picklable, so that it can travel to workers.

    Empty `streams`, empty `flow` and zero `stride` take the backbone's own. `weights` holds (stream, source) pairs.
    `time_limit` is how many seconds a reader may go without a frame; `crops` as in `Backbone.extract`;
    `runtime` and `precision` as in `wtal.extractors.runtime`.
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
    crops: int = 1
    runtime: str = TORCH
    precision: str = FLOAT32


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
        self.spec = spec = replace(spec, backbone=full_name(spec.backbone))
        module = BACKBONES.load(spec.backbone)
        names = spec.streams or tuple(module.STREAMS)
        _refuse_unknown_streams(names, spec.weights, tuple(module.STREAMS))
        weights = dict(spec.weights)
        self.backbones: dict[str, Backbone] = {
            name: run_by(
                create_backbone(spec.backbone, name, weights.get(name)), spec.runtime, spec.precision, spec.device
            )
            for name in names
        }
        _refuse_crops(spec, self.backbones)
        first = next(iter(self.backbones.values()))
        self.span, self.size = first.span, first.size
        self.stride = spec.stride or int(module.STRIDE)
        self.flow: FlowMethod | None = create_flow(spec.flow or module.FLOW, spec.device) if FLOW in names else None
        self.threads = spec.threads or os.cpu_count() or 1
        self._reader = ReaderProcess()
        if spec.device.startswith("cuda"):
            # TF32 moves features by a thousandth against the CPU: speed is not worth other numbers.
            torch.backends.cudnn.allow_tf32 = False

    @property
    def identity(self) -> dict[str, Any]:
        """JSON: all that can change a number of the features."""
        return {
            "backbone": self._name,
            "weights": {name: backbone.identity for name, backbone in self.backbones.items()},
            "flow": None if self.flow is None else self.flow.identity,
            "reader": reader_identity(self.spec.reader),
            "fps": str(self.spec.fps),
            "stride": self.stride,
            "span": self.span,
            "tail": self.spec.tail,
            "size": {"short_side": self.size.short_side, "enlarge": self.size.enlarge},
            "dtype": self.spec.dtype,
            **({"crops": self.spec.crops} if self.spec.crops > 1 else {}),
        }

    @property
    def readable(self) -> str:
        """The part of a store's name that a person can read, e.g. `i3d-rgb_imagenet-flow_imagenet-16x16@25`."""
        streams = "" if len(self.backbones) > 1 else f"-{next(iter(self.backbones))}"
        tags = dict.fromkeys(_tag(source) for name, source in self.spec.weights if name in self.backbones)
        weights = "".join(f"-{tag}" for tag in tags)
        rate = str(self.spec.fps).replace("/", ":")
        name = "".join(c if c.isalnum() or c in "._" else "-" for c in self._name)
        crops = f"-{self.spec.crops}crops" if self.spec.crops > 1 else ""
        return f"{name}{weights}{streams}{crops}-{self.span}x{self.stride}@{rate}"

    @property
    def _name(self) -> str:
        """The backbone's name; one that is a folder goes by the folder's own name, wherever that lies."""
        leaf, colon, variant = self.spec.backbone.partition(":")
        return f"{leaf}{colon}{Path(variant).name if Path(variant).is_dir() else variant}"

    @property
    def frames(self) -> tuple[Any, ...]:
        """What extractors must have in common to see the same frames: rate, size, reader and its time limit."""
        return self.spec.fps, self.size, self.spec.reader, self.spec.time_limit

    def __call__(self, path: Path) -> Extracted:
        """Features of one file.

        Where `auto` chose a reader that then fails, the file is read again from its start by the reference, and
        `info` says so: no video mixes two readers.

        Raises:
            VideoError: when it cannot be read, or its reader hangs or dies.
        """
        return extract_together([self], path)[0]

    def open(self, path: Path, reader: str, why: str | None) -> IsolatedVideo:
        """The frames of a file, by `reader`; `why` says why it is not the one that was asked for."""
        return self._reader.open(path, self.spec.fps, self.size, reader, self.spec.time_limit, why)

    def made(self, features: dict[str, NDArray[Any]], summary: VideoSummary) -> Extracted:
        """Features of a whole video, checked against its grid.

        Raises:
            VideoError: when they are not finite, or not as many as the grid has snippets.
        """
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


def extract_together(extractors: Sequence[Extractor], path: Path) -> list[Extracted]:
    """Features of one file by several extractors that see the same frames (`Extractor.frames`), in one pass.

    Flow is computed once for those that have the same method.

    Raises:
        VideoError: as of one extractor.
    """
    try:
        return _read(extractors, path, extractors[0].spec.reader, None)
    except ReaderFailed as error:
        return _read(extractors, path, REFERENCE, str(error))


def _read(extractors: Sequence[Extractor], path: Path, reader: str, why: str | None) -> list[Extracted]:
    first = extractors[0]
    with ThreadPoolExecutor(first.threads) as pool, first.open(path, reader, why) as video:
        features = _features(extractors, video, pool)
        summary = video.summary
    return [one.made(streams, summary) for one, streams in zip(extractors, features, strict=True)]


def _features(
    extractors: Sequence[Extractor], chunks: Iterable[NDArray[np.uint8]], pool: Executor
) -> list[dict[str, NDArray[Any]]]:
    """Chunks of frames (n, H, W, 3) -> {stream: (T, D)} of each extractor."""
    threads = extractors[0].threads
    methods = {_flow_key(one): one.flow for one in extractors}
    flows = {key: Flows(flow.engines(threads), pool, flow.pairs) for key, flow in methods.items() if flow}
    passes = [{name: _Stream(net, one, pool) for name, net in one.backbones.items()} for one in extractors]
    alone = all(net.side_by_side for one in extractors for net in one.backbones.values())
    with _torch_threads(1 if alone else threads):
        for frames in chunks:
            _push(extractors, passes, {RGB: frames}, {key: flow.push(frames) for key, flow in flows.items()})
        _push(extractors, passes, {}, {key: flow.finish() for key, flow in flows.items()})
        return [{name: stream.finish() for name, stream in streams.items()} for streams in passes]


def _push(
    extractors: Sequence[Extractor],
    passes: Sequence[dict[str, "_Stream"]],
    chunks: Mapping[str, NDArray[Any]],
    flows: Mapping[str, NDArray[Any]],
) -> None:
    """Hand frames to every stream of them, and the flows of each method to the streams of it."""
    for one, streams in zip(extractors, passes, strict=True):
        for name, stream in streams.items():
            if name == FLOW:
                stream.push(flows[_flow_key(one)])
            elif name in chunks:
                stream.push(chunks[name])


def _flow_key(extractor: Extractor) -> str:
    return json.dumps(extractor.flow.identity, sort_keys=True) if extractor.flow else ""


class _Stream:
    """One stream's frames or flows on their way through windows and backbone; at most `ahead` batches wait."""

    def __init__(self, backbone: Backbone, extractor: Extractor, pool: Executor) -> None:
        spec = extractor.spec
        self.crops = spec.crops
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
            self.waiting.append(self.pool.submit(self.backbone.extract, clips, self.crops))
            self._settle(self.ahead)
        else:
            self.rows.append(self.backbone.extract(clips, self.crops).astype(self.dtype))

    def _settle(self, left: int) -> None:
        """Wait, in order, until at most `left` batches are open."""
        while len(self.waiting) > left:
            self.rows.append(self.waiting.popleft().result().astype(self.dtype))


def _refuse_crops(spec: ExtractorSpec, backbones: Mapping[str, Backbone]) -> None:
    if spec.crops not in CROPS:
        raise UsageError(f"crops are {' or '.join(map(str, CROPS))}, got {spec.crops}")
    if spec.crops > 1 and not all(backbone.crop for backbone in backbones.values()):
        raise UsageError(f"backbone {spec.backbone} sees whole pictures; leave --crops at 1")


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


def weights_of_streams(given: Iterable[str], backbone: str, streams: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`[BACKBONE/][STREAM=]SOURCE` and `BACKBONE=SOURCE` options -> (stream, source) pairs of one backbone.

    A source without a stream is for all streams, one without a backbone for all backbones; what is of another backbone
    is left out. BACKBONE is its name with or without the variant.
    """
    pairs: dict[str, str] = {}
    names = {backbone, backbone.partition(":")[0]}
    for text in given:
        key, equals, source = text.partition("=")
        owner, slash, stream = key.rpartition("/")
        if equals and key in names:
            pairs.update(dict.fromkeys(streams, source))
        elif equals and stream in streams and (not slash or owner in names):
            pairs[stream] = source
        elif not (equals and _names_a_backbone(owner or key)):
            pairs.update(dict.fromkeys(streams, text))
    return tuple(sorted(pairs.items()))


def _names_a_backbone(text: str) -> bool:
    return text.partition(":")[0] in BACKBONES.names()
