"""Logs of training, for people: `log.jsonl`, and TensorBoard where it is installed."""

import json
import os
import time
from pathlib import Path
from typing import Any

from wtal.data.files import room_for, write_atomic

LOG = "log.jsonl"
"""Name of the log in a run's folder: a line of JSON per step."""


class TrainLog:
    """`log.jsonl`, and TensorBoard where it is installed. Lines of steps that will be run again are dropped first."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = path = folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        lasting = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomic(path, lambda file: file.write("".join(lasting).encode()))
        self.file = path.open("a", encoding="utf-8")
        with room_for(path):
            self.board = _tensorboard(folder, step)

    def __enter__(self) -> "TrainLog":
        return self

    def __exit__(self, *_: object) -> None:
        with room_for(self._path):
            self.file.close()
            if self.board is not None:
                self.board.close()

    def write(self, step: int, values: dict[str, float], score: float | None, started: float) -> None:
        """A line: the step, its terms and rate, its score where there is one, and the seconds since `started`."""
        if score is not None:
            values = {**values, "score": score}
        line = {"step": step, **values, "seconds": round(time.monotonic() - started, 4)}
        with room_for(self._path):
            self.file.write(json.dumps(line) + "\n")
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring all lines to the disk."""
        with room_for(self._path):
            self.file.flush()
            os.fsync(self.file.fileno())


def _tensorboard(folder: Path, step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
