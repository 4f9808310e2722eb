"""Training loop of a network of the second stage; killed at any moment, it resumes to the same numbers.

As in `wtal.models.training.trainer`, all randomness of a step follows from the seed and the step's number.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch

from wtal.data.locks import locked
from wtal.errors import WtalError
from wtal.heap import freed_memory_kept
from wtal.models.training.averaging import ParameterAverage
from wtal.models.training.checkpoint import (
    Checkpoint,
    Network,
    load_optimizer,
    load_parameters,
    remove_older,
    remove_torn,
    write_stage,
)
from wtal.models.training.inputs import Scaler
from wtal.models.training.log import TrainLog
from wtal.models.training.trainer import Progress, step_seed

OnStep = Callable[[Progress], None]


class TrainingLoop(Generic[Network]):
    """One network, one seed, one folder of checkpoints; subclasses define a step.

    `config` has everything on which the steps depend, as JSON types. With an `average_decay`, stages save the moving
    average of the parameters.
    """

    def __init__(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        scaler: Scaler,
        config: Mapping[str, Any],
        steps: int,
        seed: int,
        folder: Path,
        log_every: int,
        checkpoint_every: int,
        average_decay: float | None = None,
    ) -> None:
        self.network, self.optimizer, self.scaler, self.config_plain = network, optimizer, scaler, dict(config)
        self.steps, self.seed, self.folder = steps, seed, folder
        self.log_every, self.checkpoint_every = log_every, checkpoint_every
        self.averages = average_decay is not None
        self.average = ParameterAverage(average_decay or 0.0)
        self.step = 0

    @contextmanager
    def opened(self) -> Iterator[TrainLog]:
        """Hold the folder's lock, resume from its newest checkpoint, and yield the log.

        A second process on the same folder waits for the first, and then has nothing left to do.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"), freed_memory_kept():
            remove_torn(self.folder)
            self._resume()
            with TrainLog(self.folder, self.step) as log:
                yield log

    def train_to(
        self, end: int, one_step: Callable[[], dict[str, float]], log: TrainLog, on_step: OnStep | None
    ) -> None:
        """Train up to step `end`; `one_step` returns the weighted terms of the loss.

        Raises:
            WtalError: when the loss is not finite.
        """
        while self.step < end:
            started = time.monotonic()
            terms = one_step()
            if self.averages:
                self.average.add(self.network)
            loss = sum(terms.values())
            if not math.isfinite(loss):
                raise WtalError(f"the loss is {loss} at step {self.step}; lower refine.train.learning_rate")
            if self.step % self.log_every == 0 or self.step == end:
                rate = self.optimizer.param_groups[0]["lr"]
                log.write(self.step, {"loss": loss, **terms, "learning_rate": rate}, None, started)
            if self.step % self.checkpoint_every == 0 or self.step == end:
                log.flush()
                remove_older(self._checkpoint().write(self.folder))
            if on_step is not None:
                on_step(Progress(self.step, self.steps, loss, None))

    def begin_step(self) -> np.random.Generator:
        """Seed all randomness of the next step; return its generator."""
        torch.manual_seed(step_seed(self.seed, self.step))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        return np.random.default_rng([self.seed, self.step, 1])

    def write_stage(self, number: int) -> None:
        """Save the parameters, or their average, as those at the end of a stage, counted from 0."""
        with self.average.applied(self.network):
            write_stage(self.network, self.scaler, self.step, number, self.folder)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            steps=self.steps,
            seed=self.seed,
            config=self.config_plain,
            head=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average.mean,
            averaged=self.average.steps,
            scaler=self.scaler.state(),
        )

    def _resume(self) -> None:
        """Resume from the newest checkpoint, if there is one."""
        checkpoint = Checkpoint.newest(self.folder)
        if checkpoint is None:
            return
        own = (self.config_plain, self.steps, self.seed)
        if (checkpoint.config, checkpoint.steps, checkpoint.seed) != own:
            raise WtalError(f"{self.folder} holds a run of another configuration; give this run another folder")
        self.step = checkpoint.step
        load_parameters(self.network, checkpoint.head, self.folder)
        load_optimizer(self.optimizer, checkpoint.optimizer, self.folder)
        device = next(self.network.parameters()).device
        self.average.mean = {name: value.to(device) for name, value in checkpoint.average.items()}
        self.average.steps = checkpoint.averaged
