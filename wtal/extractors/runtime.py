"""Runtimes of a backbone: torch, at any precision, or OpenVINO, which is faster on a CPU.

Both are part of a store's identity, as they affect the last digits of the features (a test bounds by how much).
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
from wtal.extractors.descriptor import Descriptor

TORCH, OPENVINO = "torch", "openvino"
FLOAT32 = "float32"
_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGEST_ERROR = 1e-3
"""Maximum error of OpenVINO, relative to the largest value; correct networks stayed below 1e-5 in trials."""
_BY_TORCH = "it cannot run this network as it is: leave --runtime at torch"


def run_by(backbone: Descriptor, runtime: str = TORCH, precision: str = FLOAT32, device: str = "cpu") -> Descriptor:
    """Prepare a backbone for running: on `device` by torch, or compiled by OpenVINO for the CPU.

    Raises:
        UsageError: when the two conflict with the device or with each other, or there is no network to run.
        MissingExtraError: when OpenVINO is not installed.
    """
    if runtime == TORCH and precision == FLOAT32:
        return backbone.to(device) if isinstance(backbone, Backbone) else backbone
    if not (isinstance(backbone, Backbone) and backbone.is_network):
        name = backbone.identity["backbone"]
        raise UsageError(f"backbone {name} is not a network; leave out --runtime and --precision")
    if runtime == OPENVINO:
        if device != "cpu" or precision != FLOAT32:
            raise UsageError("--runtime openvino is for --device cpu and --precision float32; leave out one of them")
        return OpenVino(backbone)
    return MixedPrecision(backbone, precision).to(device)


class _Run(Backbone):
    """A wrapped backbone: its preprocessing and sizes are its own."""

    def __init__(self, network: Backbone, how: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.stream, self.dim, self.span = network.stream, network.dim, network.span
        self.size, self.crop, self.side_by_side = network.size, network.crop, network.side_by_side
        self.identity, self.about = {**network.identity, **how}, network.about
        self.eval()

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Apply the network's own."""
        return self.network.preprocess(frames)

    def preprocess_ten(self, frames: NDArray[Any]) -> Iterator[Tensor]:
        """Apply the network's own."""
        return self.network.preprocess_ten(frames)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Apply the network's own, by torch, in float32."""
        return self.network.feature_map(clips)


class MixedPrecision(_Run):
    """A network under torch's autocast."""

    def __init__(self, network: Backbone, precision: str) -> None:
        super().__init__(network, {"precision": precision})
        self.arithmetic = _PRECISIONS[precision]

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, D)."""
        with torch.autocast(clips.device.type, self.arithmetic):
            features: Tensor = self.network(clips)
        return features


class OpenVino(_Run):
    """A network compiled by OpenVINO, once for each size of clip; any number of clips at once.

    The compiled network is compared once with the original, on another number of clips, before use.

    Raises:
        UsageError: in `forward`, when the two differ.
    """

    def __init__(self, network: Backbone) -> None:
        self._openvino = require("openvino", "openvino")
        super().__init__(network, {"runtime": f"openvino {self._openvino.__version__.partition('-')[0]}"})
        self._compiled: dict[tuple[int, ...], Any] = {}

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, D)."""
        size = tuple(clips.shape[1:])
        if size not in self._compiled:
            self._compiled[size] = self._compile(clips)
        return self._run(self._compiled[size], clips)

    def _compile(self, clips: Tensor) -> Any:
        with warnings.catch_warnings():
            # Sizes become constants of the compiled network, as intended: another size is compiled again. Any other
            # accidental constant is detected by `_refuse_another_network`.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            model = self._openvino.convert_model(self.network, example_input=clips, input=[[-1, *clips.shape[1:]]])
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = self._openvino.Core().compile_model(model, "CPU", settings)
        self._refuse_another_network(compiled, clips)
        return compiled

    def _run(self, compiled: Any, clips: Tensor) -> Tensor:
        features = torch.from_numpy(np.array(compiled(np.ascontiguousarray(clips.numpy()))[0]))
        if len(features) != len(clips):
            raise UsageError(f"OpenVINO returns {len(features)} features for {len(clips)} clips; {_BY_TORCH}")
        return features

    def _refuse_another_network(self, compiled: Any, clips: Tensor) -> None:
        """Raise if the compiled network differs from the original on a number of clips other than the traced one."""
        forwards_and_back = [clips[:1], clips[:1].flip(2)] * 2
        others = torch.cat(forwards_and_back[: 3 if len(clips) == 2 else 2])
        wanted, compiled_features = self.network(others), self._run(compiled, others)
        if (compiled_features - wanted).abs().max() > _LARGEST_ERROR * wanted.abs().max():
            raise UsageError(f"OpenVINO returns features different from the network's own; {_BY_TORCH}")
