"""Batches that are made while the network is at work on those before them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def made_ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Lend the same items, in the same order: a thread makes the next one while the caller is at work on the last.

    One item is held beside the caller's. What making it raises is raised where it is asked for.
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
