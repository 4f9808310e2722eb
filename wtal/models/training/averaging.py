"""Average of a head's parameters over the steps of training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ParameterAverage:
    """Running mean of a state dict: its n-th step has the weight max(1/n, 1 - decay).

    `mean` is empty until the first step; integer values are the newest, not averaged.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.mean: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, module: nn.Module) -> None:
        """Add the module's parameters and buffers to the average."""
        self.steps += 1
        least_weight = 1 - self.decay
        divisor = min(float(self.steps), 1 / least_weight) if least_weight else self.steps
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                self.mean[name] = value.clone()
                continue
            mean = self.mean.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / divisor

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Load the average, if there is one, into the module for the block; yield the module's state."""
        if not self.steps:
            yield module.state_dict()
            return
        own = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.mean)
        yield self.mean
        module.load_state_dict(own)
