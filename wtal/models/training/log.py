"""Logs of training, for people: `log.jsonl`, and TensorBoard if it is installed."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from wtal.config import Record
from wtal.data.files import room_for, write_atomic
from wtal.data.regular import require_regular
from wtal.errors import ConfigError
from wtal.models.training.board import Board

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
        lasting = b"".join(line for line, entry in _entries(path) if entry["step"] <= step)
        write_atomic(path, lasting)
        self._size = len(lasting)
        self.file = path.open("a", encoding="utf-8")
        self.board = _tensorboard(folder, step)

    def __enter__(self) -> "TrainLog":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._room():
                self.file.close()
        finally:
            if self.board is not None:
                self.board.close()

    def write(self, step: int, values: dict[str, float], score: float | None, started: float) -> None:
        """Write a line: the step, `values`, the score, if any, and the seconds since `started`."""
        if score is not None:
            values = {**values, "score": score}
        line = json.dumps({"step": step, **values, "seconds": round(time.monotonic() - started, 4)}) + "\n"
        self._size += len(line)
        with self._room():
            self.file.write(line)
        if self.board is not None:
            self.board.add(step, values)

    def flush(self) -> None:
        """Write all lines to disk.

        Raises:
            DiskFullError: when there is no space for them.
        """
        with self._room():
            self.file.flush()
            os.fsync(self.file.fileno())
        if self.board is not None:
            self.board.flush()

    def _room(self) -> AbstractContextManager[None]:
        return room_for(self._path, self._size)


def _tensorboard(folder: Path, step: int) -> Board | None:
    try:
        return Board(folder / "tensorboard", step)
    except ModuleNotFoundError:
        return None
