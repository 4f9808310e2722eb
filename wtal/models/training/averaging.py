"""Average of a head's parameters over the steps of training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ParameterAverage:
    """Running mean of a state dict: the n-th step of it weighs max(1/n, 1 - decay).

    `mean` is empty until the first step; values that are counted, not measured, are the newest.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.mean: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, module: nn.Module) -> None:
        """Take the module's parameters and buffers into the average."""
        self.steps += 1
        forgets = 1 - self.decay
        divisor = min(float(self.steps), 1 / forgets) if forgets else self.steps
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                self.mean[name] = value.clone()
                continue
            mean = self.mean.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / divisor

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Lend the module the average for the block, or leave it its own where there is none; yields what it has."""
        if not self.steps:
            yield module.state_dict()
            return
        own = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.mean)
        yield self.mean
        module.load_state_dict(own)
