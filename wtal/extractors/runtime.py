"""Runtimes of a backbone: torch, at a precision of its own, or OpenVINO, which is the quicker on a CPU.

Either is part of a store's identity, as it moves the last digits of the features (a test bounds by how much).
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wtal.errors import UsageError, require
from wtal.extractors.backbone import Backbone

TORCH, OPENVINO = "torch", "openvino"
FLOAT32 = "float32"
_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGEST_ERROR = 1e-3
"""Of what OpenVINO compiled, relative to the largest value; what was right on trial stays below 1e-5."""
_BY_TORCH = "it cannot run this network as it is: leave --runtime at torch"


def run_by(network: Backbone, runtime: str = TORCH, precision: str = FLOAT32, device: str = "cpu") -> Backbone:
    """A backbone as it is to run: on `device` by torch, or compiled by OpenVINO for the CPU.

    Raises:
        UsageError: when the two do not go together with the device or with each other, or there is no network to run.
        MissingExtraError: when OpenVINO is not installed.
    """
    if runtime == TORCH and precision == FLOAT32:
        return network.to(device)
    if not any(True for _ in network.parameters()):
        name = network.identity["backbone"]
        raise UsageError(f"backbone {name} is no network; leave --runtime and --precision as they are")
    if runtime == OPENVINO:
        if device != "cpu" or precision != FLOAT32:
            raise UsageError("--runtime openvino is for --device cpu and --precision float32; leave one of them out")
        return OpenVino(network)
    return MixedPrecision(network, precision).to(device)


class _Run(Backbone):
    """A backbone in other hands: its preprocessing and its sizes are its own."""

    def __init__(self, network: Backbone, how: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.stream, self.dim, self.span = network.stream, network.dim, network.span
        self.size, self.crop, self.side_by_side = network.size, network.crop, network.side_by_side
        self.identity, self.about = {**network.identity, **how}, network.about
        self.eval()

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """The network's own."""
        return self.network.preprocess(frames)

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Tensor]:
        """The network's own."""
        return self.network.preprocess_ten(frames)

    def feature_map(self, clips: Tensor) -> Tensor:
        """The network's own, by torch, in float32."""
        return self.network.feature_map(clips)


class MixedPrecision(_Run):
    """A network under torch's autocast."""

    def __init__(self, network: Backbone, precision: str) -> None:
        super().__init__(network, {"precision": precision})
        self.arithmetic = _PRECISIONS[precision]

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, L, H, W) preprocessed -> (N, D)."""
        with torch.autocast(clips.device.type, self.arithmetic):
            features: Tensor = self.network(clips)
        return features


class OpenVino(_Run):
    """A network compiled by OpenVINO, once for each size of clip; any number of clips at once.

    What was compiled is held against the network itself once, on another number of clips, before it is used.

    Raises:
        UsageError: in `forward`, when the two differ.
    """

    def __init__(self, network: Backbone) -> None:
        self._openvino = require("openvino", "openvino")
        super().__init__(network, {"runtime": f"openvino {self._openvino.__version__.partition('-')[0]}"})
        self._compiled: dict[tuple[int, ...], Any] = {}

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, L, H, W) preprocessed -> (N, D)."""
        size = tuple(clips.shape[1:])
        if size not in self._compiled:
            self._compiled[size] = self._compile(clips)
        return self._run(self._compiled[size], clips)

    def _compile(self, clips: Tensor) -> Any:
        with warnings.catch_warnings():
            # Sizes are constants of what is compiled, as they should be: another size is compiled anew. What else may
            # have become one by mistake shows in `_refuse_another_network`.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            model = self._openvino.convert_model(self.network, example_input=clips, input=[[-1, *clips.shape[1:]]])
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = self._openvino.Core().compile_model(model, "CPU", settings)
        self._refuse_another_network(compiled, clips)
        return compiled

    def _run(self, compiled: Any, clips: Tensor) -> Tensor:
        features = torch.from_numpy(np.array(compiled(np.ascontiguousarray(clips.numpy()))[0]))
        if len(features) != len(clips):
            raise UsageError(f"OpenVINO gives {len(features)} features for {len(clips)} clips; {_BY_TORCH}")
        return features

    def _refuse_another_network(self, compiled: Any, clips: Tensor) -> None:
        """Raise where what was compiled differs from the network on a number of clips that it was not traced with."""
        forwards_and_back = [clips[:1], clips[:1].flip(2)] * 2
        others = torch.cat(forwards_and_back[: 3 if len(clips) == 2 else 2])
        wanted, compiled_features = self.network(others), self._run(compiled, others)
        if (compiled_features - wanted).abs().max() > _LARGEST_ERROR * wanted.abs().max():
            raise UsageError(f"OpenVINO gives other features than the network itself; {_BY_TORCH}")
