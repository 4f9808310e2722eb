"""Train any head from video-level labels; killed at any moment, training resumes to the same numbers.

No random state is carried from step to step: the videos, snippets, noise and dropout of a step follow from the seed and
the step's number alone, so a checkpoint of parameters and optimizer state is enough to resume.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.data.locks import locked
from wtal.errors import ConfigError, WtalError
from wtal.heap import freed_memory_kept
from wtal.models.head import Head, Moment
from wtal.models.layers.absence import absence
from wtal.models.training.ahead import made_ahead
from wtal.models.training.averaging import ParameterAverage
from wtal.models.training.checkpoint import (
    Checkpoint,
    Trained,
    load_optimizer,
    load_parameters,
    remove_older,
    remove_torn,
    write_stage,
)
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import (
    LabelledVideo,
    NegativeVideo,
    Scaler,
    negative_batch,
    step_indices,
    training_batch,
)
from wtal.models.training.log import TrainLog

_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Progress:
    """State of a run after a step, for display."""

    step: int
    steps: int
    loss: float
    score: float | None


class Trainer:
    """One head, one seed, one folder of checkpoints.

    `select(head, scaler)` scores the head on a subset other than the reported one; the parameters of the best score are
    the result, without it those of the last step. If parameters are averaged, the average is scored and saved.
    `negatives` are added to the labelled videos of each step, through the loss term `negative` only: the head's own
    loss, its pairs, memories and passes over all videos see labelled videos only, as in the papers.
    """

    def __init__(
        self,
        head: Head,
        videos: Sequence[LabelledVideo],
        config: TrainConfig,
        seed: int,
        folder: Path,
        device: str = "cpu",
        select: Callable[[Head, Scaler], float] | None = None,
        negatives: Sequence[NegativeVideo] = (),
    ) -> None:
        if not videos:
            raise WtalError("no training video has both features and labels")
        self.videos, self.config, self.seed, self.folder, self.select = list(videos), config, seed, folder, select
        self.device = torch.device(device)
        self.head = head.to(self.device)
        self.negatives = list(negatives) if config.negatives else []
        self.scaler = Scaler.fit(config.scaling, [*self.videos, *self.negatives])
        self.steps = steps_of(config, len(self.videos))
        _check(self.head, config, self.steps)
        self.classwise = _videos_of_classes(self.videos) if head.pairs else []
        self.optimizer = _optimizer(self.head, config)
        # fp16 underflows without loss scaling; bf16 and fp32 do not.
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.average = ParameterAverage(config.average_decay)
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.step = 0

    def run(self, on_step: Callable[[Progress], None] | None = None) -> Trained[Head]:
        """Train to the last step, from the newest checkpoint if there is one.

        A second process on the same folder waits for the first, and then has nothing left to do.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"), freed_memory_kept():
            return self._run(on_step)

    def _run(self, on_step: Callable[[Progress], None] | None) -> Trained[Head]:
        remove_torn(self.folder)
        self._resume()
        with TrainLog(self.folder, self.step) as log, made_ahead(self._batches()) as batches:
            while self.step < self.steps:
                started = time.monotonic()
                terms = self._one_step(batches)
                if self.step > self.config.average_from * self.steps:
                    self.average.add(self.head)
                self._end_stage()
                score = self._select()
                loss = sum(terms.values())
                if not math.isfinite(loss):
                    raise WtalError(f"the loss is {loss} at step {self.step}; lower train.learning_rate")
                if self.step % self.config.log_every == 0 or score is not None or self.step == self.steps:
                    rate = self.optimizer.param_groups[0]["lr"]
                    log.write(self.step, {"loss": loss, **terms, "learning_rate": rate}, score, started)
                if self.step % self.config.checkpoint_every == 0 or self.step == self.steps:
                    log.flush()
                    remove_older(self._checkpoint().write(self.folder))
                if on_step is not None:
                    on_step(Progress(self.step, self.steps, loss, score))
        return self._chosen()

    def _batches(self) -> Iterator[tuple[SnippetBatch, float]]:
        """Yield the batches of all remaining steps, `accumulate` per step, and the share of each in its step."""
        config, count = self.config, len(self.videos)
        length = config.sample_length if config.sampling == "perturb" else None
        for step in range(self.step, self.steps):
            rng = np.random.default_rng([self.seed, step, 1])
            indices = step_indices(self.seed, step, count, config.batch_size, self.classwise, self.head.pairs)
            for share in np.array_split(indices, self._accumulated):
                videos = [self.videos[i] for i in share]
                yield training_batch(videos, self.scaler, length, config.noise, rng), len(share) / len(indices)

    @property
    def _accumulated(self) -> int:
        """Number of batches per step."""
        return min(self.config.accumulate, self.config.batch_size)

    def _one_step(self, batches: Iterator[tuple[SnippetBatch, float]]) -> dict[str, float]:
        """Take one optimizer step; return the weighted terms of the loss."""
        torch.manual_seed(step_seed(self.seed, self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(self.config, self.step, self.steps)
        epoch = self.step * self.config.batch_size // len(self.videos)
        self.head.begin_step(Moment(self.step, self.steps, epoch), self._whole_videos)
        self.head.train()
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, float] = {}
        for _ in range(self._accumulated):
            batch, share = next(batches)
            for name, value in self._backward(batch.to(self.device), share).items():
                terms[name] = terms.get(name, 0.0) + value
        if self.negatives:
            terms["negative"] = self._learn_from_negatives()
        if self.config.clip_norm:
            self.grad_scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.step += 1
        return terms

    def _learn_from_negatives(self) -> float:
        """Add the gradient of the loss term of this step's negatives; return its weighted value."""
        length = self.config.sample_length if self.config.sampling == "perturb" else None
        rng = np.random.default_rng([self.seed, self.step, 4])
        count = min(len(self.negatives), math.ceil(self.config.negative_share * self.config.batch_size))
        videos = [self.negatives[i] for i in rng.choice(len(self.negatives), count, replace=False)]
        batch, absent = negative_batch(videos, self.scaler, length, self.config.noise, rng)
        batch = batch.to(self.device)
        with _autocast(self.device, self.config.precision):
            output = self.head(batch)
            term = self.config.negative_weight * absence(output, absent.to(self.device), batch.mask)
        self.grad_scaler.scale(term).backward()  # type: ignore[no-untyped-call]
        return term.item()

    def _backward(self, batch: SnippetBatch, share: float) -> dict[str, float]:
        """Add the gradient of a batch that is this `share` of the step; return its share of the terms."""
        with _autocast(self.device, self.config.precision):
            output = self.head(batch)
            if not torch.isfinite(output.video_scores).all():
                raise WtalError(f"scores are not finite at step {self.step}; lower train.learning_rate")
            terms = self.head.loss(output, batch)
            loss = torch.stack([value.float() for value in terms.values()]).sum() * share
        self.grad_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return {name: value.item() * share for name, value in terms.items()}

    def _whole_videos(self) -> Iterator[SnippetBatch]:
        """Yield every training video, one per batch, scaled as in training, without noise."""
        rng = np.random.default_rng(0)
        for video in self.videos:
            yield training_batch([video], self.scaler, None, 0.0, rng).to(self.device)

    def _end_stage(self) -> None:
        """Save the parameters at the end of a stage; the head may modify them before, and after the last stage."""
        ends = [self.steps * (stage + 1) // self.head.stages for stage in range(self.head.stages)]
        if self.step not in ends:
            return
        stage = ends.index(self.step)
        self.head.end_stage(stage)
        if self.head.stages > 1:
            write_stage(self.head, self.scaler, self.step, stage, self.folder)
        if self.step == self.steps:
            self.head.finish()

    def _select(self) -> float | None:
        due = self.step % self.config.select_every == 0 or self.step == self.steps
        if self.select is None or not due:
            return None
        with self.average.applied(self.head) as state:
            score = self.select(self.head.eval(), self.scaler)
            if self.best is None or score > self.best[0]:
                self.best = (score, self.step, {name: value.detach().clone() for name, value in state.items()})
        return score

    def _chosen(self) -> Trained[Head]:
        score, step, parameters = self._checkpoint().chosen()
        self.head.load_state_dict(parameters)
        return Trained(self.head.eval(), self.scaler, step, score)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            steps=self.steps,
            seed=self.seed,
            config=self.config.plain(),
            head=self.head.state_dict(),
            optimizer=self.optimizer.state_dict(),
            grad_scaler=self.grad_scaler.state_dict(),
            average=self.average.mean,
            averaged=self.average.steps,
            best=self.best,
            scaler=self.scaler.state(),
        )

    def _resume(self) -> None:
        """Resume from the newest checkpoint, if there is one."""
        checkpoint = Checkpoint.newest(self.folder)
        if checkpoint is None:
            return
        own = (self.config.plain(), self.steps, self.seed)
        if (checkpoint.config, checkpoint.steps, checkpoint.seed) != own:
            raise WtalError(f"{self.folder} holds a run of another configuration; give this run another folder")
        self.step = checkpoint.step
        load_parameters(self.head, checkpoint.head, self.folder)
        load_optimizer(self.optimizer, checkpoint.optimizer, self.folder)
        self.grad_scaler.load_state_dict(checkpoint.grad_scaler)
        self.average.mean = {name: value.to(self.device) for name, value in checkpoint.average.items()}
        self.average.steps = checkpoint.averaged
        self.best = checkpoint.best
        self.scaler = Scaler.from_state(checkpoint.scaler)


def steps_of(config: TrainConfig, videos: int) -> int:
    """Return the optimizer steps of a run over `videos` training videos."""
    return config.epochs * math.ceil(videos / config.batch_size) if config.epochs else config.steps


def _check(head: Head, config: TrainConfig, steps: int) -> None:
    """Refuse settings that would only fail during training.

    Raises:
        ConfigError: when stages, pairs or averages do not suit the run.
    """
    if head.stages > 1 and config.average_from < 1:
        raise ConfigError("this head trains in stages and averages them itself; set train.average_from to 1")
    if steps < head.stages:
        raise ConfigError(f"this head trains in {head.stages} stages, got only {steps} steps; raise train.steps")
    if 2 * head.pairs > config.batch_size:
        raise ConfigError(f"head.pairs = {head.pairs} needs train.batch_size >= {2 * head.pairs}")
    if head.pairs and config.accumulate > 1:
        raise ConfigError("train.accumulate would split the pairs of this head; set it to 1")


def _videos_of_classes(videos: Sequence[LabelledVideo]) -> list[list[int]]:
    """Return the indices of the videos of each class that has at least two."""
    table = np.stack([video.labels for video in videos]) > 0
    return [np.flatnonzero(column).tolist() for column in table.T if column.sum() > 1]


def _learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=_PRECISION[precision])


def _optimizer(head: Head, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(head.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def step_seed(seed: int, step: int) -> int:
    """Mix two numbers into one 63-bit seed."""
    return int(np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0] >> 1)
