"""Curves of training for TensorBoard, written like a log: by the caller's thread, which gets the errors of the disk.

TensorBoard's own writer has a thread, which prints a traceback when the disk is full.
"""

import os
import socket
import time
from itertools import count
from pathlib import Path
from typing import Any

from wtal.data.files import room_for

_numbers = count()


class Board:
    """File of events in a new `folder`, or next to those of earlier calls; events after `step` are hidden there."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open a new file.

        Raises:
            ModuleNotFoundError: when TensorBoard is not installed.
            DiskFullError: when there is no space for a folder or a file.
        """
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path, self._size = folder / name, 0
        with room_for(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        self._records = RecordWriter(self)
        self._add(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=step + 1, session_log=start)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each value.

        Raises:
            DiskFullError: when there is no space for it.
        """
        for name, value in values.items():
            self._add(step=step, summary=self._summary(value=[self._summary.Value(tag=name, simple_value=value)]))

    def write(self, record: bytes) -> None:
        """Append a record, as TensorBoard lays it out, to the file's buffer."""
        self._size += len(record)
        with room_for(self._path, self._size):
            self._file.write(record)

    def flush(self) -> None:
        """Write all points to the file.

        Raises:
            DiskFullError: when there is no space for them.
        """
        with room_for(self._path, self._size):
            self._file.flush()

    def close(self) -> None:
        """Write all points to the file, and close it.

        Raises:
            DiskFullError: when there is no space for them.
        """
        with room_for(self._path, self._size):
            self._file.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
