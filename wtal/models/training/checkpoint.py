"""Checkpoints of a training run: what one holds, and the files that a run leaves behind."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from wtal.data.files import write_atomic
from wtal.errors import UsageError, WeightsError, WtalError
from wtal.models.head import Head
from wtal.models.training.inputs import Scaler

StateDict = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A head with the parameters that the run chose, and the scaler of its inputs."""

    head: Head
    scaler: Scaler
    step: int
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of a run after `step` of `steps`; its fields are the keys of the file, in their order.

    `config` is `TrainConfig.plain()`. `head`, `optimizer`, `grad_scaler` and `scaler` are state dicts; `average` holds
    the mean parameters over `averaged` steps, empty where none are averaged; `best` is score, step and parameters of
    the best scored step, None where none was scored.
    """

    step: int
    steps: int
    seed: int
    config: dict[str, Any]
    head: StateDict
    optimizer: StateDict = field(default_factory=dict)
    grad_scaler: StateDict = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    averaged: int = 0
    best: list[Any] | None = None
    scaler: StateDict

    @classmethod
    def finished(cls, head: Head) -> Self:
        """State of a run that was trained elsewhere, on features as they are."""
        return cls(step=0, steps=0, seed=0, config={}, head=head.state_dict(), scaler=Scaler({}, {}).state())

    @classmethod
    def newest(cls, folder: Path) -> Self | None:
        """Read the checkpoint of the highest step in `folder`, on the CPU; None where there is none.

        Raises:
            WeightsError: when the file is damaged.
        """
        files = sorted(folder.glob("checkpoint-*.pt"))
        return cls(**_load(files[-1])) if files else None

    def write(self, folder: Path) -> Path:
        """Write the file of this step and return its path."""
        path = folder / f"checkpoint-{self.step:08d}.pt"
        _save({field.name: getattr(self, field.name) for field in fields(self)}, path)
        return path

    def chosen(self) -> tuple[float | None, int, StateDict]:
        """Return what the run ends with, as score, step and parameters: its best, its average, or its last."""
        if self.best is not None:
            score, step, parameters = self.best
            return score, step, parameters
        return None, self.step, self.average if self.averaged else self.head


def remove_torn(folder: Path) -> None:
    """Remove what a killed run was writing under its lock; other files of the folder are written without it."""
    for pattern in (".checkpoint-*.tmp", ".stage-*.tmp", ".log.jsonl.*.tmp"):
        for torn in folder.glob(pattern):
            torn.unlink()


def remove_older(newest: Path) -> None:
    """Remove the checkpoints beside `newest`."""
    for old in newest.parent.glob("checkpoint-*.pt"):
        if old != newest:
            old.unlink(missing_ok=True)


def write_finished(head: Head, folder: Path) -> Path:
    """Write the checkpoint of a run that was trained elsewhere, on features as they are; returns its path."""
    return Checkpoint.finished(head).write(folder)


def write_stage(head: Head, scaler: Scaler, step: int, stage: int, folder: Path) -> None:
    """Write the parameters at the end of a stage of training, counted from 0."""
    _save({"step": step, "head": head.state_dict(), "scaler": scaler.state()}, folder / f"stage-{stage}.pt")


def load_trained(head: Head, folder: Path) -> Trained:
    """Load the parameters that a finished run chose: its best, its average, or its last.

    Raises:
        WtalError: when the run has not finished.
    """
    checkpoint = Checkpoint.newest(folder)
    if checkpoint is None or checkpoint.step < checkpoint.steps:
        done = "no step is done" if checkpoint is None else f"step {checkpoint.step} of {checkpoint.steps}"
        raise WtalError(f"{folder} is not finished: {done}; train it again, it goes on where it was")
    score, step, parameters = checkpoint.chosen()
    head.load_state_dict(parameters)
    return Trained(head.eval(), Scaler.from_state(checkpoint.scaler), step, score)


def load_stage(head: Head, folder: Path, stage: int) -> Trained:
    """Load the parameters at the end of a stage of training, counted from 0.

    Raises:
        UsageError: when the run has kept no such stage.
    """
    path = folder / f"stage-{stage}.pt"
    if not path.is_file():
        stages = sorted(file.stem.removeprefix("stage-") for file in folder.glob("stage-*.pt"))
        raise UsageError(f"{folder} has kept no stage {stage}; it has {', '.join(stages) or 'none'}")
    state = _load(path)
    head.load_state_dict(state["head"])
    return Trained(head.eval(), Scaler.from_state(state["scaler"]), state["step"], None)


def _save(state: StateDict, path: Path) -> None:
    write_atomic(path, lambda file: torch.save(state, file))


def _load(path: Path) -> StateDict:
    try:
        state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}); remove it to train again") from None
    return state
