"""A stage of extraction that all videos in flight share: a queue, and threads that work it off on so many cores."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.decoding.isolated import Closing
from wtal.extractors.execution.stage_times import TimeTable

Array = NDArray[Any]


@dataclass(frozen=True)
class _Order:
    arrays: tuple[Array, ...]
    done: Future[Array] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return len(self.arrays[0])

    @property
    def form(self) -> tuple[Any, ...]:
        return tuple((array.shape[1:], array.dtype) for array in self.arrays)


class Cores:
    """The cores that stages on a CPU share, so that no more is at work than there are; first come, first served."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Wait for so many of them (all of them at most), and have them for the block."""
        mine, count = object(), min(count, self.count)
        with self._changed:
            self._line.append(mine)
            self._changed.wait_for(lambda: self._line[0] is mine and self._free >= count)
            self._line.popleft()
            self._free -= count
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


class Stage(Closing):
    """One worker thread for each of `functions`, which take arrays of n rows each and give an array of n rows.

    With `joined` set, what several videos ordered runs together, as soon as a worker is free and up to so many rows:
    a device that is behind gets full batches, one that waits for its input is not made to wait for more. Without it
    every order runs as it came, so that a video's numbers never depend on its company. `waiting` rows may be queued;
    then `submit` blocks, and what comes before the stage waits with it. A worker holds `needs` of the `cores` while it
    works. `begin` runs in each worker's thread before its first order; where it fails, so does the order, and the next
    one begins anew.

    Raises:
        ValueError: when there is no function.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        functions: Sequence[Callable[..., Array]],
        times: TimeTable,
        joined: int = 0,
        waiting: int | None = None,
        cores: Cores | None = None,
        needs: int = 1,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        if not functions:
            raise ValueError(f"stage {name} needs at least one worker, got none")
        self._name, self._unit, self._times = name, unit, times
        self.joined, self._waiting, self._begin = joined, waiting, begin
        self._cores, self._needs = cores, needs
        self._orders: deque[_Order] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, args=(function,), name=name, daemon=True) for function in functions
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, *arrays: Array) -> Future[Array]:
        """Arrays of n rows -> what the function makes of them, n rows, when it is done.

        Raises:
            CancelledError: when the stage is closed.
        """
        order = _Order(arrays)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(order.rows))
            if self._closed:
                raise CancelledError
            self._orders.append(order)
            self._changed.notify_all()
        return order.done

    def close(self) -> None:
        """Finish what is running, cancel what waits."""
        with self._changed:
            self._closed = True
            for order in self._orders:
                order.done.cancel()
            self._orders.clear()
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _has_room(self, rows: int) -> bool:
        return self._waiting is None or not self._orders or sum(o.rows for o in self._orders) + rows <= self._waiting

    def _work(self, function: Callable[..., Array]) -> None:
        begun = False
        while orders := self._take():
            try:
                if not begun:
                    self._begin()
                begun = True
                made = self._run(function, orders)
            except BaseException as error:  # noqa: BLE001 - it belongs to those who ordered
                for order in orders:
                    order.done.set_exception(error)
                continue
            start = 0
            for order in orders:
                order.done.set_result(made[start : start + order.rows])
                start += order.rows

    def _run(self, function: Callable[..., Array], orders: Sequence[_Order]) -> Array:
        rows = sum(order.rows for order in orders)
        arrays = _side_by_side([order.arrays for order in orders])
        with (
            self._cores.hold(self._needs) if self._cores else nullcontext(),
            self._times.busy(self._name, rows, self._unit),
        ):
            made = function(*arrays)
        if len(made) != rows:
            raise RuntimeError(f"stage {self._name} got {rows} {self._unit} and gave {len(made)}")
        return made

    def _take(self) -> list[_Order]:
        """The next orders that run together; none when the stage is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._orders))
            if self._closed:
                return []
            orders = [self._orders.popleft()]
            rows = orders[0].rows
            while self._orders and rows + self._orders[0].rows <= self.joined:
                if self._orders[0].form != orders[0].form:
                    break
                rows += self._orders[0].rows
                orders.append(self._orders.popleft())
            self._changed.notify_all()
            return orders


def _side_by_side(orders: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return orders[0] if len(orders) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*orders, strict=True))
