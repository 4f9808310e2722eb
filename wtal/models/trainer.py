"""Trains any head from video-level labels; killed at any moment, it goes on to the same numbers.

Nothing random is carried from step to step: the videos, snippets, noise and dropout of a step follow from the seed
and the step's number alone, so a checkpoint of parameters and optimizer state is all that there is to resume.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.files import write_atomic
from wtal.data.locks import locked
from wtal.errors import WeightsError, WtalError
from wtal.models.head import Head
from wtal.models.inputs import LabelledVideo, Scaler, training_batch
from wtal.models.train_config import TrainConfig

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
    kept. Without it the last step's are.
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
        with locked(self.folder / ".lock"):
            return self._run(on_step)

    def _run(self, on_step: Callable[[Progress], None] | None) -> Trained:
        # What a killed run was writing under this lock; other files of the folder are written without it.
        for torn in (*self.folder.glob(".checkpoint-*.tmp"), *self.folder.glob(".log.jsonl.*.tmp")):
            torn.unlink()
        self._resume()
        with _Log(self.folder, self.step) as log:
            while self.step < self.config.steps:
                started = time.monotonic()
                terms = self._one_step()
                self._average()
                score = self._select()
                loss = sum(terms.values())
                if not math.isfinite(loss):
                    raise WtalError(f"the loss is {loss} at step {self.step}; lower train.learning_rate")
                if self.step % self.config.log_every == 0 or score is not None or self.step == self.config.steps:
                    rate = self.optimizer.param_groups[0]["lr"]
                    log.write(self.step, {"loss": loss, **terms, "learning_rate": rate}, score, started)
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                    log.flush()
                    self._save()
                if on_step is not None:
                    on_step(Progress(self.step, self.config.steps, loss, score))
        return self._chosen()

    def _one_step(self) -> dict[str, float]:
        """One optimizer step; returns the weighted terms of the loss."""
        self.head.train()
        torch.manual_seed(_mix(self.seed, self.step))
        rng = np.random.default_rng([self.seed, self.step, 1])
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
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
        """The videos of this step: consecutive places in an endless row of shuffles, one shuffle an epoch."""
        count, size = len(self.videos), self.config.batch_size
        places = range(self.step * size, (self.step + 1) * size)
        shuffles = {
            epoch: np.random.default_rng([self.seed, epoch, 0]).permutation(count)
            for epoch in {place // count for place in places}
        }
        return [int(shuffles[place // count][place % count]) for place in places]

    def _learning_rate(self) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / self.config.steps))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_PRECISION[self.config.precision])

    def _average(self) -> None:
        if self.step <= self.config.average_from * self.config.steps:
            return
        self.averaged += 1
        for name, value in self.head.state_dict().items():
            mean = self.average.setdefault(name, torch.zeros_like(value))
            mean += ((value - mean) / self.averaged).to(mean.dtype)

    def _select(self) -> float | None:
        due = self.step % self.config.select_every == 0 or self.step == self.config.steps
        if self.select is None or not due:
            return None
        score = self.select(self.head.eval(), self.scaler)
        if self.best is None or score > self.best[0]:
            self.best = (score, self.step, {k: v.detach().clone() for k, v in self.head.state_dict().items()})
        return score

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
        if state["config"] != self.config.plain() or state["seed"] != self.seed:
            raise WtalError(f"{self.folder} holds a run of another configuration; give this run a folder of its own")
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.grad_scaler.load_state_dict(state["grad_scaler"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.averaged = state["averaged"]
        self.best = None if state["best"] is None else tuple(state["best"])
        self.scaler = Scaler.from_state(state["scaler"])


class _Log:
    """`log.jsonl`, and TensorBoard where it is installed. Lines of steps that will be run again are dropped first."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomic(path, lambda file: file.write("".join(kept).encode()))
        self.file = path.open("a", encoding="utf-8")
        self.board = _tensorboard(folder, step)

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def write(self, step: int, values: dict[str, float], score: float | None, started: float) -> None:
        if score is not None:
            values = {**values, "score": score}
        line = {"step": step, **values, "seconds": round(time.monotonic() - started, 4)}
        self.file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of the highest step in `folder`, on the CPU; None where there is none.

    Raises:
        WeightsError: when the file is damaged.
    """
    files = sorted(folder.glob("checkpoint-*.pt"))
    if not files:
        return None
    try:
        state: dict[str, Any] = torch.load(files[-1], map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"{files[-1]} is damaged ({error}); remove it to train again") from None
    return state


def load_trained(head: Head, folder: Path, steps: int) -> Trained:
    """The parameters that a finished run chose: its best, its average, or its last.

    Raises:
        WtalError: when the run has not finished.
    """
    state = newest_checkpoint(folder)
    if state is None or state["step"] < steps:
        raise WtalError(f"{folder} is not finished: step {0 if state is None else state['step']} of {steps}")
    score, step, parameters = None, state["step"], state["head"]
    if state["best"] is not None:
        score, step, parameters = state["best"]
    elif state["averaged"]:
        parameters = state["average"]
    head.load_state_dict(parameters)
    return Trained(head.eval(), Scaler.from_state(state["scaler"]), step, score)


def _optimizer(head: Head, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(head.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def _tensorboard(folder: Path, step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed from two numbers, well mixed."""
    return int(np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0] >> 1)
