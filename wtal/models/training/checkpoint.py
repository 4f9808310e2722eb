"""Checkpoints of a training run: their content and their files."""

import pickle
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from wtal.config import Record
from wtal.data.files import write_atomic
from wtal.data.parsing.json_keys import checked
from wtal.data.regular import require_regular
from wtal.errors import UsageError, WeightsError, WtalError
from wtal.models.training.inputs import Scaler, ScalerState

StateDict = dict[str, Any]
Network = TypeVar("Network", bound=nn.Module)


_WAY_OUT = "remove it to train again"
_DAMAGE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ImportError,
    SyntaxError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""Errors that reading a damaged checkpoint may raise."""


class _State(Record):
    """Base of the content of checkpoint files, which includes tensors."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


Content = TypeVar("Content", bound=_State)


class _Stage(_State):
    """Content of a stage's file."""

    step: int
    head: dict[str, Tensor]
    scaler: ScalerState


@dataclass(frozen=True)
class Trained(Generic[Network]):
    """A network (a head, student or rescorer) with the run's final parameters, and the scaler of its inputs."""

    head: Network
    scaler: Scaler
    step: int
    score: float | None


class Checkpoint(_State):
    """State of a run after `step` of `steps`; its fields are the keys of the file, in order.

    `config` is `TrainConfig.plain()`. `head`, `optimizer` and `grad_scaler` are state dicts; `average` has the mean
    parameters over `averaged` steps, empty without averaging; `best` has score, step and parameters of the best scored
    step, None if none was scored.
    """

    step: Annotated[int, Field(ge=0)]
    steps: int
    seed: int
    config: dict[str, Any]
    head: dict[str, Tensor]
    optimizer: StateDict = Field(default_factory=dict)
    grad_scaler: StateDict = Field(default_factory=dict)
    average: dict[str, Tensor] = Field(default_factory=dict)
    averaged: Annotated[int, Field(ge=0)] = 0
    best: Annotated[tuple[float, int, dict[str, Tensor]], Field(strict=False)] | None = None
    scaler: ScalerState

    @classmethod
    def finished(cls, head: nn.Module) -> Self:
        """Return the state of a run that was trained elsewhere, on unscaled features."""
        return cls(step=0, steps=0, seed=0, config={}, head=head.state_dict(), scaler=Scaler({}, {}).state())

    @classmethod
    def newest(cls, folder: Path) -> Self | None:
        """Read the checkpoint of the highest step in `folder`, on the CPU; None if there is none.

        Raises:
            WeightsError: when the file is damaged, or lacks a key.
        """
        files = sorted(folder.glob("checkpoint-*.pt"))
        return _load(files[-1], cls) if files else None

    def write(self, folder: Path) -> Path:
        """Write the file of this step and return its path."""
        path = folder / f"checkpoint-{self.step:08d}.pt"
        _save(self, path)
        return path

    def chosen(self) -> tuple[float | None, int, StateDict]:
        """Return score, step and parameters of the run's result: its best, its average, or its last."""
        if self.best is not None:
            score, step, parameters = self.best
            return score, step, parameters
        return None, self.step, self.average if self.averaged else self.head


def remove_torn(folder: Path) -> None:
    """Remove the temporary files of a killed run; those written without its lock are left alone."""
    for pattern in (".checkpoint-*.tmp", ".stage-*.tmp", ".log.jsonl.tmp"):
        for torn in folder.glob(pattern):
            torn.unlink()


def remove_older(newest: Path) -> None:
    """Remove all checkpoints in the folder of `newest` but this one."""
    for old in newest.parent.glob("checkpoint-*.pt"):
        if old != newest:
            old.unlink(missing_ok=True)


def write_finished(head: nn.Module, folder: Path) -> Path:
    """Write the checkpoint of a run that was trained elsewhere, on unscaled features; return its path."""
    return Checkpoint.finished(head).write(folder)


def write_stage(head: nn.Module, scaler: Scaler, step: int, stage: int, folder: Path) -> None:
    """Write the parameters at the end of a stage of training, counted from 0."""
    _save(_Stage(step=step, head=head.state_dict(), scaler=scaler.state()), folder / f"stage-{stage}.pt")


def load_trained(head: Network, folder: Path) -> Trained[Network]:
    """Load the parameters of a finished run's result: its best, its average, or its last.

    Raises:
        WtalError: when the run has not finished.
    """
    checkpoint = Checkpoint.newest(folder)
    if checkpoint is None or checkpoint.step < checkpoint.steps:
        progress = "no step is done" if checkpoint is None else f"step {checkpoint.step} of {checkpoint.steps}"
        raise WtalError(f"{folder} is not finished: {progress}; train it again to resume")
    score, step, parameters = checkpoint.chosen()
    load_parameters(head, parameters, folder)
    return Trained(head.eval(), Scaler.from_state(checkpoint.scaler), step, score)


def load_stage(head: Network, folder: Path, stage: int) -> Trained[Network]:
    """Load the parameters at the end of a stage of training, counted from 0.

    Raises:
        UsageError: when the run has saved no such stage.
        WeightsError: when its file is damaged, or lacks a key.
    """
    path = folder / f"stage-{stage}.pt"
    if not path.is_file():
        stages = sorted(file.stem.removeprefix("stage-") for file in folder.glob("stage-*.pt"))
        if not stages:
            raise UsageError(f"{folder} was not trained in stages; leave out --stage")
        raise UsageError(f"{folder} has no stage {stage}; it has {', '.join(stages)}")
    state = _load(path, _Stage)
    load_parameters(head, state.head, path)
    return Trained(head.eval(), Scaler.from_state(state.scaler), state.step, None)


def load_parameters(head: nn.Module, parameters: StateDict, where: Path) -> None:
    """Load parameters from a file or a folder, `where`, into a head.

    Raises:
        WeightsError: when they belong to another head.
    """
    try:
        head.load_state_dict(parameters)
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{where} does not fit the head of its run.json ({why}); {_WAY_OUT}") from None


def load_optimizer(optimizer: torch.optim.Optimizer, state: StateDict, where: Path) -> None:
    """Load the state of an optimizer from the checkpoint of a folder, `where`.

    Raises:
        WeightsError: when it belongs to other parameters.
    """
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    try:
        moments = state["state"].items()
        fits = all(tuple(v.shape) in ((), shapes[i]) for i, named in moments for v in named.values())
        if not fits:
            raise ValueError("its moments have different shapes")
        optimizer.load_state_dict(state)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{where} has an optimizer that does not fit ({error}); {_WAY_OUT}") from None


def _save(state: _State, path: Path) -> None:
    write_atomic(path, lambda file: torch.save(dict(state), file))


def _load(path: Path, kind: type[Content]) -> Content:
    """Read the keys of a kind from a file, ignoring others."""
    require_regular(path, WeightsError)
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums
            if torn := archive.testzip():
                raise ValueError(f"{torn} has a wrong checksum")
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGE as error:
        why = str(error).partition("\n")[0]
        raise WeightsError(f"{path} is damaged ({why}); {_WAY_OUT}") from None
    missing = [key for key in kind.model_fields if not isinstance(state, dict) or key not in state]
    if missing or not isinstance(state, dict):
        raise WeightsError(f"{path} is not a checkpoint of wtal: it lacks {', '.join(missing)}; {_WAY_OUT}")
    return checked(path, {key: state[key] for key in kind.model_fields}, kind, _WAY_OUT, WeightsError)
