"""The extractor: a backbone per stream, a flow method, a reader; `extraction_line.py` applies them to files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from wtal.data.grid import SnippetGrid
from wtal.errors import UsageError, VideoError
from wtal.extractors.backbones import BACKBONES, create_backbone, full_name
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.decoding.isolated import IsolatedVideo, ReaderProcess
from wtal.extractors.decoding.reader import TIME_LIMIT, VideoSummary
from wtal.extractors.descriptor import Descriptor
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.jobs import ClipFunction, FlowJob, StreamJob
from wtal.extractors.execution.known import require_streams
from wtal.extractors.execution.windows import Windows
from wtal.extractors.flow import create_flow
from wtal.extractors.optical_flow import FlowMethod
from wtal.extractors.readers import reader_identity

FLOW = "flow"


@dataclass(frozen=True)
class ExtractorSpec:
    """Settings of an extractor, and where it runs; picklable, so that it can be sent to workers.

    `weights` holds (stream, source) pairs. `device` is one of torch's, or several separated by commas, each of which
    gets a copy of the backbones. `threads` work in parallel (0: one per core available to this process, divided among
    the `share` processes on this machine). `batch` is the number of snippets that a network processes at once;
    `time_limit` is the maximum number of seconds that a reader may take for its next frame.
    """

    config: ExtractConfig
    weights: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"
    threads: int = 0
    share: int = 1
    batch: int = 4
    time_limit: float = TIME_LIMIT


@dataclass(frozen=True)
class FrameSource:
    """A way to read a video's frames: extractors with equal sources use the same frames, and share a pass."""

    fps: Fraction
    size: FrameSize
    reader: str
    time_limit: float

    def open(self, process: ReaderProcess, path: Path) -> IsolatedVideo:
        """Open the frames of a file."""
        return process.open(path, self.fps, self.size, self.reader, self.time_limit)


@dataclass(frozen=True)
class Extracted:
    """Features of one video: `streams` holds (T, D) arrays on `grid`; `info` describes its reading."""

    grid: SnippetGrid
    streams: dict[str, NDArray[Any]]
    info: dict[str, Any] = field(default_factory=dict)


class Extractor:
    """A backbone for each stream and device, and a flow method, kept across many videos.

    Raises:
        UsageError: when a name in the spec is unknown.
        WeightsError: when weights are missing, damaged, or do not fit.
    """

    def __init__(self, spec: ExtractorSpec) -> None:
        config = spec.config.model_copy(update={"backbone": full_name(spec.config.backbone)})
        self.spec, self.config, self.rate = replace(spec, config=config), config, config.rate
        module = BACKBONES.load(config.backbone)
        names = config.streams or module.STREAMS
        require_streams(config.backbone, (*names, *(stream for stream, _ in spec.weights)))
        weights = dict(spec.weights)
        devices = spec.device.split(",")
        self.replicas: dict[str, list[Descriptor]] = {
            name: [
                _prepare(create_backbone(config.backbone, name, weights.get(name)), config, device)
                for device in devices
            ]
            for name in names
        }
        self.backbones = {name: replicas[0] for name, replicas in self.replicas.items()}
        _refuse_crops(config, self.backbones)
        first = next(iter(self.backbones.values()))
        self.span, self.size = first.span, first.size
        self.stride = config.stride or module.STRIDE
        flow = config.flow or module.FLOW
        self.flows: list[FlowMethod] = [create_flow(flow, device) for device in devices] if FLOW in names else []
        self.flow = self.flows[0] if self.flows else None
        self.threads = spec.threads or max(1, int(joblib.cpu_count()) // spec.share)
        if spec.device.startswith("cuda"):
            import torch

            # TF32 shifts features by a thousandth relative to the CPU: speed does not justify different numbers.
            torch.backends.cudnn.allow_tf32 = False

    @property
    def identity(self) -> dict[str, Any]:
        """JSON of everything that affects the features."""
        return {
            "backbone": self.name,
            "weights": {name: backbone.identity for name, backbone in self.backbones.items()},
            "flow": None if self.flow is None else self.flow.identity,
            "reader": reader_identity(self.config.reader),
            "fps": str(self.rate),
            "stride": self.stride,
            "span": self.span,
            "tail": self.config.tail,
            "size": {"short_side": self.size.short_side, "enlarge": self.size.enlarge},
            "dtype": self.config.dtype,
            **({"crops": self.config.crops} if self.config.crops > 1 else {}),
            **({"zero": self.config.zero} if self.config.zero != "file" else {}),
        }

    @property
    def readable(self) -> str:
        """Human-readable part of a store's name, e.g. `i3d-rgb_imagenet-tvl1.numba-16x16@25`."""
        streams = "" if len(self.backbones) > 1 else f"-{next(iter(self.backbones))}"
        tags = dict.fromkeys(_tag(source) for name, source in self.spec.weights if name in self.backbones)
        weights = "".join(f"-{tag}" for tag in tags)
        rate = str(self.rate).replace("/", ":")
        name = "".join(c if c.isalnum() or c in "._" else "-" for c in self.name)
        crops = f"-{self.config.crops}crops" if self.config.crops > 1 else ""
        flow = f"-{self.flow.name}.{self.flow.implementation}" if self.flow else ""
        return f"{name}{weights}{streams}{crops}{flow}-{self.span}x{self.stride}@{rate}"

    @property
    def name(self) -> str:
        """Name of the backbone; for a folder, the folder's own name, wherever it is."""
        leaf, colon, variant = self.config.backbone.partition(":")
        folder = Path(variant).expanduser()
        return f"{leaf}{colon}{folder.resolve().name if variant and folder.is_dir() else variant}"

    @property
    def source(self) -> FrameSource:
        """Return the way this extractor's frames are read."""
        return FrameSource(self.rate, self.size, self.config.reader, self.spec.time_limit)

    def jobs(self) -> dict[str, StreamJob]:
        """Return the job of each stream."""
        return {stream: self._job(stream) for stream in self.backbones}

    def flow_job(self) -> FlowJob | None:
        """Return the job of optical flow, None if no stream uses it."""
        if self.flow is None:
            return None
        return FlowJob(json.dumps(self.flow.identity, sort_keys=True), tuple(self.flows), self.threads)

    def stage_name(self, stream: str) -> str:
        """Return the name of a stream's backbone in timing tables."""
        return f"{self.name} {stream}"

    def assemble(self, features: dict[str, NDArray[Any]], summary: VideoSummary) -> Extracted:
        """Check the features of a whole video against its grid.

        Raises:
            VideoError: when they are not finite, or their number differs from the grid's snippets.
        """
        begins = summary.begins if self.config.zero == "file" else Fraction(0)
        grid = SnippetGrid(self.rate, summary.frames, Fraction(self.stride), self.span, self.config.tail, begins)
        for name, array in features.items():
            if not np.isfinite(array).all():
                raise VideoError(f"{self.name} {name} has features that are not finite; is the checkpoint sound?")
            if len(array) != grid.num_snippets:
                raise VideoError(f"{self.name} {name} has {len(array)} snippets, but the grid has {grid.num_snippets}")
        return Extracted(grid, features, summary.to_json())

    def _job(self, stream: str) -> StreamJob:
        """Create the job of a stream. On a GPU, clips of several videos share a batch.

        Their videos' threads crop and scale them beforehand, so that clips of videos of any size share a batch, and the
        device does not wait for cropping. Ten crops are too large for that. On a CPU, where batches gain little, clips
        of videos are never mixed, so that a video's numbers do not depend on other videos.
        """
        replicas = self.replicas[stream]
        first, batch, crops = replicas[0], self.spec.batch, self.config.crops
        joins = self.spec.device != "cpu" and first.is_network
        apart = joins and crops == 1
        if not joins:
            # A backbone without parameters stays on the CPU, whatever the device: one copy is enough there.
            replicas = [first] * (self.threads if first.side_by_side else 1)
        return StreamJob(
            stage=self.stage_name(stream),
            windows=partial(Windows, self.stride, first.span, self.config.tail, batch),
            dim=first.dim,
            dtype=self.config.dtype,
            workers=tuple(replica.features if apart else _features(replica, crops) for replica in replicas),
            prepare=_preprocess(first) if apart else lambda clips: clips,
            by_torch=first.by_torch,
            threads=1 if first.side_by_side else self.threads,
            joined=batch if joins else 0,
            waiting=batch * (len(replicas) if joins else 1),
        )


def _prepare(backbone: Descriptor, config: ExtractConfig, device: str) -> Descriptor:
    """Return a backbone on its device, in the runtime and precision of `config`.

    Raises:
        UsageError: when these conflict, or there is no network to run.
        MissingExtraError: when the runtime is not installed.
    """
    if not backbone.by_torch and (config.runtime, config.precision) == ("torch", "float32"):
        return backbone
    from wtal.extractors.runtime import run_by

    return run_by(backbone, config.runtime, config.precision, device)


def _features(backbone: Descriptor, crops: int) -> ClipFunction:
    return lambda clips: backbone.extract(clips, crops)


def _preprocess(backbone: Descriptor) -> ClipFunction:
    return lambda clips: backbone.preprocess(clips).contiguous().numpy()


def _refuse_crops(config: ExtractConfig, backbones: Mapping[str, Descriptor]) -> None:
    if config.crops > 1 and not all(backbone.crop for backbone in backbones.values()):
        raise UsageError(f"backbone {config.backbone} uses whole pictures; leave --crops at 1")


def _tag(source: str) -> str:
    """Return the tag of weights in a store's name: the file's name, or `random0`."""
    name = source.replace(":", "") if source.startswith("random:") else Path(source).stem
    return "".join(c if c.isalnum() or c in "._" else "_" for c in name)
