"""Batches that are prepared while the network works on the previous ones."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def made_ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Yield the same items in the same order, while a thread prepares the next one.

    One item is buffered. An exception in the thread is raised when that item is requested.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:

        def ahead() -> Iterator[Item]:
            coming: Future[list[Item]] = pool.submit(_next, items)
            while item := coming.result():
                coming = pool.submit(_next, items)
                yield item[0]

        yield ahead()


def _next(items: Iterator[Item]) -> list[Item]:
    """Return the next item in a list, which is empty after the last."""
    return list(islice(items, 1))
