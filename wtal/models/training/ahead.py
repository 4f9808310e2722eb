"""Batches that are prepared while the network works on the previous ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def made_ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Yield the same items in the same order, while a thread prepares the next one.

    One item is buffered. An exception in the thread is raised when that item is requested.
    """
    # No executor: Ctrl-C within a `threading.Condition` may leave it locked, and the other thread waiting forever.
    requests: SimpleQueue[bool] = SimpleQueue()
    answers: SimpleQueue[list[Item] | BaseException] = SimpleQueue()

    def prepare() -> None:
        while requests.get():
            try:
                answers.put(list(islice(items, 1)))  # empty after the last
            except BaseException as error:  # noqa: BLE001 - raised where the item is requested
                answers.put(error)

    def ahead() -> Iterator[Item]:
        requests.put(True)
        while answer := answers.get():
            if isinstance(answer, BaseException):
                raise answer
            requests.put(True)
            yield answer[0]

    thread = Thread(target=prepare, name="batches", daemon=True)
    thread.start()
    try:
        yield ahead()
    finally:
        requests.put(False)
        thread.join()
