"""Clips to feature vectors by torch: `Backbone`, the base of networks."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wtal.extractors.descriptor import Description, Descriptor, Pixels, WeightsSource, centre_crop, ten_crops

__all__ = ["Backbone", "Description", "Pixels", "WeightsSource", "centre_crop", "ten_crops"]


class Backbone(nn.Module, Descriptor):
    """A network, or a fixed descriptor in torch, that maps clips of one stream to feature vectors."""

    by_torch = True

    @property
    def is_network(self) -> bool:
        """True if it has parameters, and therefore a device."""
        return any(True for _ in self.parameters())

    def preprocess(self, frames: NDArray[Any]) -> Tensor:
        """Preprocess (N, L, H, W, 3) uint8 RGB or (N, L, H, W, 2) float32 pixels of flow -> (N, C, L, H', W')."""
        raise NotImplementedError

    def feature_map(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, D, ...): the features before the last averaging."""
        raise NotImplementedError

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, C, L, H, W) preprocessed clips -> (N, D)."""
        raise NotImplementedError

    @torch.inference_mode()
    def features(self, clips: Tensor | NDArray[Any]) -> NDArray[np.float32]:
        """Map (N, C, L, H, W) preprocessed clips on any device -> (N, D), computed on the device of the parameters.

        Clips are copied to a CUDA device from pinned memory, asynchronously.
        """
        clips = torch.as_tensor(clips)
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        if device.type == "cuda" and clips.device.type == "cpu":
            clips = clips.pin_memory()
        features: Tensor = self(clips.to(device, non_blocking=True))
        return features.float().cpu().numpy()
