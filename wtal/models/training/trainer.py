"""Trains any head from video-level labels; killed at any moment, it goes on to the same numbers.

Nothing random is carried from step to step: the videos, snippets, noise and dropout of a step follow from the seed
and the step's number alone, so a checkpoint of parameters and optimizer state is all that there is to resume.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.data.files import write_atomic
from wtal.data.locks import locked
from wtal.errors import ConfigError, UsageError, WeightsError, WtalError
from wtal.heap import freed_memory_kept
from wtal.models.head import Head, Moment
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo, Scaler, choose_pairs, training_batch
from wtal.models.training.log import TrainLog

_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Progress:
    """What a caller is told after each step."""

    step: int
    steps: int
    loss: float
    score: float | None


@dataclass(frozen=True)
class Trained:
    """A head with the parameters that the run chose, and the scaler of its inputs."""

    head: Head
    scaler: Scaler
    step: int
    score: float | None


class Trainer:
    """One head, one seed, one folder of checkpoints.

    `select(head, scaler)` scores the head on a subset that is not the reported one; the best score's parameters are
    kept. Without it the last step's are. Where parameters are averaged, the average is what is scored and kept.
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
    ) -> None:
        if not videos:
            raise WtalError("no training video has both features and labels")
        self.videos, self.config, self.seed, self.folder, self.select = list(videos), config, seed, folder, select
        self.device = torch.device(device)
        self.head = head.to(self.device)
        self.scaler = Scaler.fit(config.scaling, self.videos)
        self.steps = steps_of(config, len(self.videos))
        _check(self.head, config, self.steps)
        self.classwise = _videos_of_classes(self.videos) if head.pairs else []
        self.optimizer = _optimizer(self.head, config)
        # fp16 underflows without loss scaling; bf16 and fp32 do not.
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.average: dict[str, Tensor] = {}
        self.averaged = 0
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.step = 0

    def run(self, on_step: Callable[[Progress], None] | None = None) -> Trained:
        """Train to the last step, from the newest checkpoint if there is one.

        A second process on the same folder waits for the first, and then finds its work done.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"), freed_memory_kept():
            return self._run(on_step)

    def _run(self, on_step: Callable[[Progress], None] | None) -> Trained:
        # What a killed run was writing under this lock; other files of the folder are written without it.
        for torn in (
            *self.folder.glob(".checkpoint-*.tmp"),
            *self.folder.glob(".stage-*.tmp"),
            *self.folder.glob(".log.jsonl.*.tmp"),
        ):
            torn.unlink()
        self._resume()
        with TrainLog(self.folder, self.step) as log:
            while self.step < self.steps:
                started = time.monotonic()
                terms = self._one_step()
                self._average()
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
                    self._save()
                if on_step is not None:
                    on_step(Progress(self.step, self.steps, loss, score))
        return self._chosen()

    def _one_step(self) -> dict[str, float]:
        """One optimizer step; returns the weighted terms of the loss."""
        torch.manual_seed(_mix(self.seed, self.step))
        rng = np.random.default_rng([self.seed, self.step, 1])
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        epoch = self.step * self.config.batch_size // len(self.videos)
        self.head.begin_step(Moment(self.step, self.steps, epoch), self._whole_videos)
        self.head.train()
        self.optimizer.zero_grad(set_to_none=True)
        videos = [self.videos[i] for i in self._indices()]
        parts = [part for part in np.array_split(np.arange(len(videos)), self.config.accumulate) if len(part)]
        length = self.config.sample_length if self.config.sampling == "perturb" else None
        terms: dict[str, float] = {}
        for part in parts:
            batch = training_batch([videos[i] for i in part], self.scaler, length, self.config.noise, rng)
            share = len(part) / len(videos)
            for name, value in self._backward(batch.to(self.device), share).items():
                terms[name] = terms.get(name, 0.0) + value
        if self.config.clip_norm:
            self.grad_scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.step += 1
        return terms

    def _backward(self, batch: Any, share: float) -> dict[str, float]:
        with self._autocast():
            output = self.head(batch)
            if not torch.isfinite(output.video_scores).all():
                raise WtalError(f"scores are not finite at step {self.step}; lower train.learning_rate")
            terms = self.head.loss(output, batch)
            loss = torch.stack([value.float() for value in terms.values()]).sum() * share
        self.grad_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return {name: value.item() * share for name, value in terms.items()}

    def _indices(self) -> list[int]:
        """The videos of this step: pairs of one class where the head wants them, then the next ones.

        These are consecutive places in an endless row of shuffles, one shuffle an epoch.
        """
        rng = np.random.default_rng([self.seed, self.step, 3])
        first = choose_pairs(self.classwise, self.head.pairs, rng)
        count, size = len(self.videos), self.config.batch_size - 2 * self.head.pairs
        size += 2 * self.head.pairs - len(first)
        places = range(self.step * size, (self.step + 1) * size)
        shuffles = {
            epoch: np.random.default_rng([self.seed, epoch, 0]).permutation(count)
            for epoch in {place // count for place in places}
        }
        return first + [int(shuffles[place // count][place % count]) for place in places]

    def _whole_videos(self) -> Iterator[SnippetBatch]:
        """Every training video, one a batch, scaled as in training, without noise."""
        rng = np.random.default_rng(0)
        for video in self.videos:
            yield training_batch([video], self.scaler, None, 0.0, rng).to(self.device)

    def _learning_rate(self) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_PRECISION[self.config.precision])

    def _average(self) -> None:
        """Take this step's parameters into the average; what is counted, not measured, is the newest."""
        if self.step <= self.config.average_from * self.steps:
            return
        self.averaged += 1
        forgets = 1 - self.config.average_decay
        divisor = min(float(self.averaged), 1 / forgets) if forgets else self.averaged
        for name, value in self.head.state_dict().items():
            if not value.is_floating_point():
                self.average[name] = value.clone()
                continue
            mean = self.average.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / divisor

    def _end_stage(self) -> None:
        """Keep the parameters where a stage ends; the head may work on them before, and after the last."""
        ends = [self.steps * (stage + 1) // self.head.stages for stage in range(self.head.stages)]
        if self.step not in ends:
            return
        stage = ends.index(self.step)
        self.head.end_stage(stage)
        if self.head.stages > 1:
            kept = {"step": self.step, "head": self.head.state_dict(), "scaler": self.scaler.state()}
            write_atomic(self.folder / f"stage-{stage}.pt", lambda file: torch.save(kept, file))
        if self.step == self.steps:
            self.head.finish()

    def _select(self) -> float | None:
        due = self.step % self.config.select_every == 0 or self.step == self.steps
        if self.select is None or not due:
            return None
        with self._with_average() as state:
            score = self.select(self.head.eval(), self.scaler)
            if self.best is None or score > self.best[0]:
                self.best = (score, self.step, {name: value.detach().clone() for name, value in state.items()})
        return score

    @contextlib.contextmanager
    def _with_average(self) -> Iterator[dict[str, Tensor]]:
        """The head with what the run would end with now: the average, or its parameters as they are."""
        if not self.averaged:
            yield self.head.state_dict()
            return
        own = {name: value.clone() for name, value in self.head.state_dict().items()}
        self.head.load_state_dict(self.average)
        yield self.average
        self.head.load_state_dict(own)

    def _chosen(self) -> Trained:
        step, score = self.step, None
        if self.best is not None:
            score, step, state = self.best
            self.head.load_state_dict(state)
        elif self.averaged:
            self.head.load_state_dict(self.average)
        return Trained(self.head.eval(), self.scaler, step, score)

    def _save(self) -> None:
        """Write the checkpoint of this step, then remove the older ones."""
        state = {
            "step": self.step,
            "steps": self.steps,
            "seed": self.seed,
            "config": self.config.plain(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "grad_scaler": self.grad_scaler.state_dict(),
            "average": self.average,
            "averaged": self.averaged,
            "best": None if self.best is None else list(self.best),
            "scaler": self.scaler.state(),
        }
        target = self.folder / f"checkpoint-{self.step:08d}.pt"
        write_atomic(target, lambda file: torch.save(state, file))
        for old in self.folder.glob("checkpoint-*.pt"):
            if old != target:
                old.unlink(missing_ok=True)

    def _resume(self) -> None:
        state = newest_checkpoint(self.folder)
        if state is None:
            return
        mine = (self.config.plain(), self.steps, self.seed)
        if (state["config"], state["steps"], state["seed"]) != mine:
            raise WtalError(f"{self.folder} holds a run of another configuration; give this run a folder of its own")
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.grad_scaler.load_state_dict(state["grad_scaler"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.averaged = state["averaged"]
        self.best = None if state["best"] is None else tuple(state["best"])
        self.scaler = Scaler.from_state(state["scaler"])


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of the highest step in `folder`, on the CPU; None where there is none.

    Raises:
        WeightsError: when the file is damaged.
    """
    files = sorted(folder.glob("checkpoint-*.pt"))
    if not files:
        return None
    return _load(files[-1])


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}); remove it to train again") from None
    return state


def write_finished(head: Head, folder: Path) -> Path:
    """The checkpoint of a run that was trained elsewhere, on features as they are; returns its path."""
    state = {
        "step": 0,
        "steps": 0,
        "seed": 0,
        "config": {},
        "head": head.state_dict(),
        "optimizer": {},
        "grad_scaler": {},
        "average": {},
        "averaged": 0,
        "best": None,
        "scaler": Scaler({}, {}).state(),
    }
    path = folder / "checkpoint-00000000.pt"
    write_atomic(path, lambda file: torch.save(state, file))
    return path


def load_trained(head: Head, folder: Path) -> Trained:
    """The parameters that a finished run chose: its best, its average, or its last.

    Raises:
        WtalError: when the run has not finished.
    """
    state = newest_checkpoint(folder)
    if state is None or state["step"] < state["steps"]:
        done = "no step is done" if state is None else f"step {state['step']} of {state['steps']}"
        raise WtalError(f"{folder} is not finished: {done}; train it again, it goes on where it was")
    score, step, parameters = None, state["step"], state["head"]
    if state["best"] is not None:
        score, step, parameters = state["best"]
    elif state["averaged"]:
        parameters = state["average"]
    head.load_state_dict(parameters)
    return Trained(head.eval(), Scaler.from_state(state["scaler"]), step, score)


def load_stage(head: Head, folder: Path, stage: int) -> Trained:
    """The parameters at the end of a stage of training, counted from 0.

    Raises:
        UsageError: when the run has kept no such stage.
    """
    path = folder / f"stage-{stage}.pt"
    if not path.is_file():
        kept = sorted(file.stem.removeprefix("stage-") for file in folder.glob("stage-*.pt"))
        raise UsageError(f"{folder} has kept no stage {stage}; it has {', '.join(kept) or 'none'}")
    state = _load(path)
    head.load_state_dict(state["head"])
    return Trained(head.eval(), Scaler.from_state(state["scaler"]), state["step"], None)


def steps_of(config: TrainConfig, videos: int) -> int:
    """Optimizer steps of a run over so many training videos."""
    return config.epochs * math.ceil(videos / config.batch_size) if config.epochs else config.steps


def _check(head: Head, config: TrainConfig, steps: int) -> None:
    """Refuse what would only be met on the way.

    Raises:
        ConfigError: when stages, pairs or averages do not fit the run.
    """
    if head.stages > 1 and config.average_from < 1:
        raise ConfigError("this head trains in stages, and averages these itself; set train.average_from to 1")
    if steps < head.stages:
        raise ConfigError(f"this head trains in {head.stages} stages, and {steps} steps are fewer; raise train.steps")
    if 2 * head.pairs > config.batch_size:
        raise ConfigError(f"head.pairs = {head.pairs} needs train.batch_size >= {2 * head.pairs}")
    if head.pairs and config.accumulate > 1:
        raise ConfigError("train.accumulate would tear the pairs of this head apart; set it to 1")


def _videos_of_classes(videos: Sequence[LabelledVideo]) -> list[list[int]]:
    """Per class that two videos or more show: the indices of these."""
    table = np.stack([video.labels for video in videos]) > 0
    return [np.flatnonzero(column).tolist() for column in table.T if column.sum() > 1]


def _optimizer(head: Head, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(head.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed from two numbers, well mixed."""
    return int(np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0] >> 1)
