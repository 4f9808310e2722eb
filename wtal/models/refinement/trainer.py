"""Trains a student from pseudo segments, in rounds; killed at any moment, it goes on to the same numbers.

As in `wtal.models.training.trainer`, all that is random in a step follows from the seed and the step's number.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wtal.data.locks import locked
from wtal.errors import WtalError
from wtal.heap import freed_memory_kept
from wtal.models.refinement.config import RefineConfig
from wtal.models.refinement.pseudo_segments import PseudoSegments
from wtal.models.refinement.teaching import TaughtVideo, targets_of, taught_batch
from wtal.models.regression.video_term import video_term
from wtal.models.student import Student
from wtal.models.training.averaging import ParameterAverage
from wtal.models.training.checkpoint import (
    Checkpoint,
    load_optimizer,
    load_parameters,
    remove_older,
    remove_torn,
    write_stage,
)
from wtal.models.training.inputs import Scaler, step_indices
from wtal.models.training.log import TrainLog
from wtal.models.training.trainer import Progress, step_seed

Segments = Mapping[str, PseudoSegments]
"""Video -> its pseudo segments, in seconds; one that is missing has none."""
Teach = Callable[[int, Student, Scaler], Segments | None]
"""(round from 0, the student's moving average, scaler) -> what teaches in that round; None where it would teach
nothing new, and training ends. After an interruption it is asked again with the same parameters."""


class StudentTrainer:
    """One student, one seed, one folder of checkpoints; the moving average at the end of each round is a stage."""

    def __init__(
        self,
        student: Student,
        videos: Sequence[TaughtVideo],
        config: RefineConfig,
        scaler: Scaler,
        teach: Teach,
        seed: int,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        if not videos:
            raise WtalError("no training video has both features and labels")
        self.videos, self.config, self.scaler, self.teach = list(videos), config, scaler, teach
        self.seed, self.folder, self.device = seed, folder, torch.device(device)
        self.student = student.to(self.device)
        self.ends = config.round_ends()
        self.steps = self.ends[-1]
        groups = self.student.parameter_groups(config.train.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.train.learning_rate)
        self.average = ParameterAverage(config.train.average_decay)
        self.step = 0

    def run(self, on_step: Callable[[Progress], None] | None = None) -> int:
        """Train to the last step, from the newest checkpoint if there is one; return how many rounds taught.

        A second process on the same folder waits for the first, and then finds its work done.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"), freed_memory_kept():
            remove_torn(self.folder)
            self._resume()
            with TrainLog(self.folder, self.step) as log:
                for number, end in enumerate(self.ends):
                    if self.step < end and not self._round(number, end, log, on_step):
                        return number
                    if self.step == end:
                        self._write_stage(number)
        return len(self.ends)

    def _round(self, number: int, end: int, log: TrainLog, on_step: Callable[[Progress], None] | None) -> bool:
        """Train up to the step `end`; False where nothing is left to teach."""
        with self.average.applied(self.student):
            segments = self.teach(number, self.student.eval(), self.scaler)
        if segments is None:
            return False
        train = self.config.train
        while self.step < end:
            started = time.monotonic()
            terms = self._one_step(segments)
            self.average.add(self.student)
            loss = sum(terms.values())
            if not math.isfinite(loss):
                raise WtalError(f"the loss is {loss} at step {self.step}; lower refine.train.learning_rate")
            if self.step % train.log_every == 0 or self.step == end:
                rate = self.optimizer.param_groups[0]["lr"]
                log.write(self.step, {"loss": loss, **terms, "learning_rate": rate}, None, started)
            if self.step % train.checkpoint_every == 0 or self.step == end:
                log.flush()
                remove_older(self._checkpoint().write(self.folder))
            if on_step is not None:
                on_step(Progress(self.step, self.steps, loss, None))
        return True

    def _one_step(self, segments: Segments) -> dict[str, float]:
        """Take one optimizer step; return the weighted terms of the loss."""
        train = self.config.train
        torch.manual_seed(step_seed(self.seed, self.step))
        rng = np.random.default_rng([self.seed, self.step, 1])
        for group in self.optimizer.param_groups:
            group["lr"] = train.learning_rate * _height(self.step, self.steps, train.warm_up)
        indices = step_indices(self.seed, self.step, len(self.videos), train.batch_size, [], 0)
        videos = [self.videos[i] for i in indices]
        batch = taught_batch(videos, self.scaler, train.max_length, train.noise, rng)
        self.student.train()
        self.optimizer.zero_grad(set_to_none=True)
        output = self.student(batch.features.to(self.device), batch.mask.to(self.device))
        own = [segments.get(video.id, PseudoSegments()) for video in videos]
        terms = self.student.loss(output, targets_of(videos, batch.firsts, own, output.points))
        if train.video_weight and batch.labels.any():
            labels = batch.labels.to(self.device)
            terms["video"] = train.video_weight * video_term(output, labels, train.video_ratio)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if train.clip_norm:
            nn.utils.clip_grad_norm_(self.student.parameters(), train.clip_norm)
        self.optimizer.step()
        self.step += 1
        return {name: value.item() for name, value in terms.items()}

    def _write_stage(self, number: int) -> None:
        with self.average.applied(self.student):
            write_stage(self.student, self.scaler, self.step, number, self.folder)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            steps=self.steps,
            seed=self.seed,
            config=self.config.plain(),
            head=self.student.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average.mean,
            averaged=self.average.steps,
            scaler=self.scaler.state(),
        )

    def _resume(self) -> None:
        """Take up the newest checkpoint, where there is one."""
        checkpoint = Checkpoint.newest(self.folder)
        if checkpoint is None:
            return
        own = (self.config.plain(), self.steps, self.seed)
        if (checkpoint.config, checkpoint.steps, checkpoint.seed) != own:
            raise WtalError(f"{self.folder} holds a run of another configuration; give this run a folder of its own")
        self.step = checkpoint.step
        load_parameters(self.student, checkpoint.head, self.folder)
        load_optimizer(self.optimizer, checkpoint.optimizer, self.folder)
        self.average.mean = {name: value.to(self.device) for name, value in checkpoint.average.items()}
        self.average.steps = checkpoint.averaged


def _height(step: int, steps: int, warm_up: float) -> float:
    """Share of the learning rate at a step: linear from 0, then a cosine to 0."""
    rise = warm_up * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
