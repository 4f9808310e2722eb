"""The extractor: a backbone for each stream, a flow method, a reader; `assembly_line.py` has them work on files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid, TailPolicy
from wtal.errors import UsageError, VideoError
from wtal.extractors.backbone import CROPS, Backbone, create_backbone, full_name
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.decoding.isolated import IsolatedVideo, ReaderProcess
from wtal.extractors.decoding.reader import VideoSummary
from wtal.extractors.decoding.reader_choice import reader_identity
from wtal.extractors.execution.windows import Windows
from wtal.extractors.optical_flow import FlowMethod, create_flow
from wtal.extractors.runtime import FLOAT32, TORCH, run_by
from wtal.registry import suggest

FLOW = "flow"


@dataclass(frozen=True)
class ExtractorSpec:
    """All that says how features are made; picklable, so that it can travel to workers.

    Empty `streams`, empty `flow` and zero `stride` take the backbone's own. `weights` holds (stream, source) pairs.
    `device` is one of torch's, or several with commas between them, each of which gets a copy of the backbones.
    `threads` is how many work side by side (0: one a core that this process may use, of which each of `share` processes
    on this machine takes its part).
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
    share: int = 1
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
    """A backbone for each stream and device, and a flow method, kept over many videos.

    Raises:
        UsageError: when a name in the spec is unknown.
        WeightsError: when weights are missing, damaged, or do not fit.
    """

    def __init__(self, spec: ExtractorSpec) -> None:
        self.spec = spec = replace(spec, backbone=full_name(spec.backbone))
        module = BACKBONES.load(spec.backbone)
        names = spec.streams or module.STREAMS
        _refuse_unknown_streams(names, spec.weights, module.STREAMS)
        weights = dict(spec.weights)
        self.devices = spec.device.split(",")
        self.replicas: dict[str, list[Backbone]] = {
            name: [
                run_by(create_backbone(spec.backbone, name, weights.get(name)), spec.runtime, spec.precision, device)
                for device in self.devices
            ]
            for name in names
        }
        self.backbones = {name: replicas[0] for name, replicas in self.replicas.items()}
        _refuse_crops(spec, self.backbones)
        first = next(iter(self.backbones.values()))
        self.span, self.size = first.span, first.size
        self.stride = spec.stride or module.STRIDE
        flow = spec.flow or module.FLOW
        self.flows: list[FlowMethod] = [create_flow(flow, device) for device in self.devices] if FLOW in names else []
        self.flow = self.flows[0] if self.flows else None
        self.threads = spec.threads or max(1, int(joblib.cpu_count()) // spec.share)
        if spec.device.startswith("cuda"):
            # TF32 moves features by a thousandth against the CPU: speed is not worth other numbers.
            torch.backends.cudnn.allow_tf32 = False

    @property
    def identity(self) -> dict[str, Any]:
        """JSON: all that can change a number of the features."""
        return {
            "backbone": self.name,
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
        """The part of a store's name that a person can read, e.g. `i3d-rgb_imagenet-tvl1.numba-16x16@25`."""
        streams = "" if len(self.backbones) > 1 else f"-{next(iter(self.backbones))}"
        tags = dict.fromkeys(_tag(source) for name, source in self.spec.weights if name in self.backbones)
        weights = "".join(f"-{tag}" for tag in tags)
        rate = str(self.spec.fps).replace("/", ":")
        name = "".join(c if c.isalnum() or c in "._" else "-" for c in self.name)
        crops = f"-{self.spec.crops}crops" if self.spec.crops > 1 else ""
        flow = f"-{self.flow.name}.{self.flow.implementation}" if self.flow else ""
        return f"{name}{weights}{streams}{crops}{flow}-{self.span}x{self.stride}@{rate}"

    @property
    def name(self) -> str:
        """The backbone's name; one that is a folder goes by the folder's own name, wherever and however that lies."""
        leaf, colon, variant = self.spec.backbone.partition(":")
        folder = Path(variant).expanduser()
        return f"{leaf}{colon}{folder.resolve().name if variant and folder.is_dir() else variant}"

    @property
    def frames(self) -> tuple[Any, ...]:
        """What extractors must have in common to see the same frames: rate, size, reader and its time limit."""
        return self.spec.fps, self.size, self.spec.reader, self.spec.time_limit

    def stage(self, stream: str) -> str:
        """What a time table calls the work of a stream's backbone."""
        return f"{self.name} {stream}"

    def joins(self, stream: str) -> bool:
        """Whether snippets of several videos run in one batch: on a GPU, which wants full ones.

        On a CPU, where a batch is worth little, a video's numbers never depend on its company.
        """
        return self.spec.device != "cpu" and any(True for _ in self.backbones[stream].parameters())

    def prepare(self, stream: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What a video's thread does to clips before they wait for the backbone: on a GPU, all but the network.

        So clips of videos of any size go into one batch, and the device does not wait for pictures to be cut. Ten
        crops are too large for that, and a CPU has nothing to gain.
        """
        if not self._apart(stream):
            return lambda clips: clips
        return lambda clips: self.backbones[stream].preprocess(clips).contiguous().numpy()

    def work(self, stream: str, backbone: Backbone) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What is left for a copy of the stream's backbone: prepared clips -> features."""
        if not self._apart(stream):
            return lambda clips: backbone.extract(clips, self.spec.crops)
        return lambda clips: backbone.features(torch.from_numpy(clips))

    def _apart(self, stream: str) -> bool:
        return self.joins(stream) and self.spec.crops == 1

    def cut(self, stream: str) -> tuple[Windows, int, str]:
        """For one video's stream: what cuts it into clips; and the dimension and type of its features."""
        backbone = self.backbones[stream]
        return Windows(self.stride, backbone.span, self.spec.tail, self.spec.batch), backbone.dim, self.spec.dtype

    def open(self, process: ReaderProcess, path: Path, reader: str, why: str | None) -> IsolatedVideo:
        """The frames of a file, by `reader`; `why` says why it is not the one that was asked for."""
        return process.open(path, self.spec.fps, self.size, reader, self.spec.time_limit, why)

    def made(self, features: dict[str, NDArray[Any]], summary: VideoSummary) -> Extracted:
        """Features of a whole video, checked against its grid.

        Raises:
            VideoError: when they are not finite, or not as many as the grid has snippets.
        """
        grid = SnippetGrid(self.spec.fps, summary.frames, Fraction(self.stride), self.span, self.spec.tail)
        for name, array in features.items():
            if not np.isfinite(array).all():
                raise VideoError(f"{self.name} {name} has features that are not finite; is the checkpoint sound?")
            if len(array) != grid.num_snippets:
                raise VideoError(f"{self.name} {name} has {len(array)} snippets, the grid {grid.num_snippets}")
        return Extracted(grid, features, summary.to_json())


def _refuse_crops(spec: ExtractorSpec, backbones: Mapping[str, Backbone]) -> None:
    if spec.crops not in CROPS:
        raise UsageError(f"crops are {' or '.join(map(str, CROPS))}, got {spec.crops}")
    if spec.crops > 1 and not all(backbone.crop for backbone in backbones.values()):
        raise UsageError(f"backbone {spec.backbone} sees whole pictures; leave --crops at 1")


def _tag(source: str) -> str:
    """Weights in a store's name: the file's name, or `random0`."""
    name = source.replace(":", "") if source.startswith("random:") else Path(source).stem
    return "".join(c if c.isalnum() or c in "._" else "_" for c in name)


def _refuse_unknown_streams(
    names: tuple[str, ...], weights: tuple[tuple[str, str], ...], known: tuple[str, ...]
) -> None:
    for name in (*names, *(stream for stream, _ in weights)):
        if name not in known:
            raise UsageError(f"the backbone has no stream {name!r}; {suggest(name, known)}")
