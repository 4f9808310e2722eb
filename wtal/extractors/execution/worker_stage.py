"""Stages of extraction shared by all videos in flight: queues of orders, and crews of threads that process them."""

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtal.extractors.execution.stage_times import TimeTable

Array = NDArray[Any]


@dataclass(frozen=True)
class _Order:
    """Arrays of equally many rows, and the future of their result."""

    arrays: tuple[Array, ...]
    done: Future[Array] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return len(self.arrays[0])

    @property
    def form(self) -> tuple[Any, ...]:
        return tuple((array.shape[1:], array.dtype) for array in self.arrays)


class Crew(AbstractContextManager["Crew"]):
    """Threads that run tasks, first come, first served. Stages on a CPU share one, with a thread per core.

    A task with several threads of its own takes the place of as many, so that no more threads are busy than exist.
    """

    def __init__(self, count: int, name: str = "crew") -> None:
        self.count = count
        self._free = count
        self._tasks: deque[tuple[int, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def start(self, task: Callable[[], None], needs: int = 1) -> None:
        """Run a task as soon as `needs` threads (at most all of them) are free; its errors are only printed."""
        with self._changed:
            self._tasks.append((min(needs, self.count), task))
            self._changed.notify()

    def close(self) -> None:
        """Finish the running tasks, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._tasks and self._tasks[0][0] <= self._free))
                if self._closed:
                    return
                needs, task = self._tasks.popleft()
                self._free -= needs
                self._changed.notify()
            try:
                task()
            except BaseException:  # noqa: BLE001 - a bug of the task: the crew must go on, or others would wait forever
                threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), threading.current_thread()]))
            finally:
                with self._changed:
                    self._free += needs
                    self._changed.notify()


class Stage(AbstractContextManager["Stage"]):
    """A queue of orders for `functions`, which take arrays of n rows each and return an array of n rows.

    No function runs twice at a time. With `joined` set, orders of several videos run together, up to that many rows, as
    soon as a function is free: a device that is behind gets full batches, one that is ahead does not wait for them.
    Otherwise every order runs alone, so that a video's numbers never depend on other videos. At most `waiting` rows are
    queued; then `submit` blocks, and with it the steps before the stage. Orders run on `crew`, each taking `needs` of
    its threads, or on the stage's own crew with a thread per function. `begin` runs in the thread before each order; if
    it fails, so does the order.

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
        crew: Crew | None = None,
        needs: int = 1,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        if not functions:
            raise ValueError(f"stage {name} needs at least one worker, got none")
        self._name, self._unit, self._times = name, unit, times
        self.joined, self.num_functions = joined, len(functions)
        self._waiting, self._begin, self._needs = waiting, begin, needs
        self._idle: queue.SimpleQueue[Callable[..., Array]] = queue.SimpleQueue()
        for function in functions:
            self._idle.put(function)
        self._orders: deque[_Order] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._crew, self._owns_crew = crew or Crew(len(functions), name), crew is None

    def submit(self, *arrays: Array) -> Future[Array]:
        """Request the function's result for arrays of n rows; block while the queue is full.

        Raises:
            CancelledError: when the stage is closed.
        """
        order = _Order(arrays)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(order.rows))
            if self._closed:
                raise CancelledError
            self._orders.append(order)
        self._crew.start(self._work_off, self._needs)
        return order.done

    def close(self) -> None:
        """Finish the running orders, cancel the waiting ones."""
        with self._changed:
            self._closed = True
            for order in self._orders:
                order.done.cancel()
            self._orders.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running)
        if self._owns_crew:
            self._crew.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _has_room(self, rows: int) -> bool:
        if self._waiting is None or not self._orders:
            return True
        return sum(order.rows for order in self._orders) + rows <= self._waiting

    def _work_off(self) -> None:
        """Run the next orders; there are none if earlier calls included them."""
        function = self._idle.get()
        orders = self._take()
        try:
            if orders:
                self._finish(function, orders)
        finally:
            self._idle.put(function)
            with self._changed:
                self._running -= bool(orders)
                self._changed.notify_all()

    def _finish(self, function: Callable[..., Array], orders: Sequence[_Order]) -> None:
        """Give each order its rows of the result, or the error; orders cancelled in the meantime get nothing."""
        orders = [order for order in orders if order.done.set_running_or_notify_cancel()]
        if not orders:
            return
        try:
            self._begin()
            result = self._run(function, orders)
            ends = accumulate(order.rows for order in orders)
            parts = [result[end - order.rows : end] for order, end in zip(orders, ends, strict=True)]
        except BaseException as error:  # noqa: BLE001 - raised where the result is requested
            for order in orders:
                order.done.set_exception(error)
            return
        for order, part in zip(orders, parts, strict=True):
            order.done.set_result(part)

    def _run(self, function: Callable[..., Array], orders: Sequence[_Order]) -> Array:
        rows = sum(order.rows for order in orders)
        arrays = _concatenated([order.arrays for order in orders])
        with self._times.busy(self._name, rows, self._unit):
            result = function(*arrays)
        if len(result) != rows:
            raise RuntimeError(f"stage {self._name} got {rows} {self._unit} but returned {len(result)}")
        return result

    def _take(self) -> list[_Order]:
        """Remove the next orders that run together from the queue."""
        with self._changed:
            if not self._orders:
                return []
            orders = [self._orders.popleft()]
            rows = orders[0].rows
            while self._orders and rows + self._orders[0].rows <= self.joined:
                if self._orders[0].form != orders[0].form:
                    break
                rows += self._orders[0].rows
                orders.append(self._orders.popleft())
            self._running += 1
            self._changed.notify_all()
            return orders


def _concatenated(orders: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return orders[0] if len(orders) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*orders, strict=True))
