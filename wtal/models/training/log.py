"""Logs of training, for people: `log.jsonl`, and TensorBoard if it is installed."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from wtal.config import Record
from wtal.data.files import room_for, write_atomic
from wtal.data.regular import require_regular
from wtal.errors import ConfigError

LOG = "log.jsonl"
"""Name of the log in a run's folder: a line of JSON per step."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the log in a run's folder, a dict per line: `step`, `seconds` and all other measurements.

    Damaged lines, and the unfinished one of a killed run, are skipped: a log is for people.
    """
    return [entry for _, entry in _entries(folder / LOG)]


def _entries(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the intact lines of a log, raw and parsed."""
    require_regular(path)
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            entry = json.loads(line)
            _Line.parse(entry)
        except (ValueError, RecursionError, ConfigError):
            continue
        if line.endswith(b"\n"):
            yield line, entry


class _Line(Record):
    """Keys of each line."""

    model_config = ConfigDict(extra="ignore")

    step: int
    seconds: float


class TrainLog:
    """`log.jsonl`, and TensorBoard if it is installed. Lines of steps that will be repeated are dropped first."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = path = folder / LOG
        lasting = [line for line, entry in _entries(path) if entry["step"] <= step]
        write_atomic(path, b"".join(lasting))
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
        """Write a line: the step, `values`, the score, if any, and the seconds since `started`."""
        if score is not None:
            values = {**values, "score": score}
        line = {"step": step, **values, "seconds": round(time.monotonic() - started, 4)}
        with room_for(self._path):
            self.file.write(json.dumps(line) + "\n")
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write all lines to disk."""
        with room_for(self._path):
            self.file.flush()
            os.fsync(self.file.fileno())


def _tensorboard(folder: Path, step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
