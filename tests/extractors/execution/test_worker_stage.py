"""Stages shared by videos: orders, joins, errors, and their common limit of cores."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.worker_stage import Crew, Stage


def test_a_stage_joins_what_waits_up_to_its_limit_and_only_what_is_alike():
    """Hold the worker up with the first order, so that all others queue."""
    began, go, seen = threading.Event(), threading.Event(), []

    def double(rows):
        seen.append(rows.shape)
        began.set()
        go.wait(60)
        return 2 * rows

    times = TimeTable()
    with Stage("double", "rows", [double], times, joined=4) as stage:
        first = stage.submit(np.zeros((1, 2)))
        assert began.wait(60)
        made = [
            stage.submit(np.full((rows, wide), value))
            for value, (rows, wide) in enumerate([(2, 2), (2, 2), (1, 2), (1, 3), (6, 3)])
        ]
        go.set()
        assert first.result(60).shape == (1, 2)
        for value, future in enumerate(made):
            assert (future.result(60) == 2 * value).all()
    assert seen == [(1, 2), (4, 2), (1, 2), (1, 3), (6, 3)]
    assert times.stages()["double"].units == 13


def test_a_stage_that_joins_nothing_runs_every_order_as_it_came():
    seen = []
    with Stage("s", "rows", [lambda rows: seen.append(len(rows)) or rows], TimeTable()) as stage:
        for done in [stage.submit(np.zeros((n, 1))) for n in (3, 1, 2)]:
            done.result(60)
    assert seen == [3, 1, 2]


def test_submit_waits_while_the_queue_is_full():
    go = threading.Event()
    stage = Stage("slow", "rows", [lambda rows: go.wait(60) and rows], TimeTable(), waiting=2)
    through = []

    def feed():
        for number in range(6):
            stage.submit(np.zeros((1, 1)))
            through.append(number)

    feeder = threading.Thread(target=feed)
    feeder.start()
    deadline = time.monotonic() + 60
    while len(through) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(through) == 3  # one at work, two in the queue
    go.set()
    feeder.join(60)
    stage.close()
    assert len(through) == 6


def test_an_error_goes_to_those_who_ordered_and_the_stage_goes_on():
    def picky(rows):
        if rows.sum() > 1:
            raise ValueError("too much")
        return rows

    with Stage("picky", "rows", [picky], TimeTable()) as stage:
        bad, good = stage.submit(np.full((1, 1), 2)), stage.submit(np.ones((1, 1)))
        with pytest.raises(ValueError, match="too much"):
            bad.result(60)
        assert good.result(60) == 1


def test_a_worker_that_cannot_begin_tells_those_who_ordered_and_begins_anew():
    said = [MemoryError("too many threads"), RuntimeError("not yet")]

    def begin():
        if said:
            raise said.pop(0)

    with Stage("late", "rows", [lambda rows: rows], TimeTable(), begin=begin) as stage:
        orders = [stage.submit(np.full((1, 1), number)) for number in range(4)]
        with pytest.raises(MemoryError, match="too many threads"):
            orders[0].result(60)
        with pytest.raises(RuntimeError, match="not yet"):
            orders[1].result(60)
        assert [int(order.result(60)[0, 0]) for order in orders[2:]] == [2, 3]


def test_a_closed_stage_cancels_what_waits():
    began, go = threading.Event(), threading.Event()

    def slow(rows):
        began.set()
        go.wait(60)
        return rows

    stage = Stage("slow", "rows", [slow], TimeTable())
    running, waiting = stage.submit(np.zeros((1, 1))), stage.submit(np.zeros((1, 1)))
    began.wait(60)
    closer = threading.Thread(target=stage.close)
    closer.start()
    with pytest.raises(CancelledError):
        waiting.result(60)
    go.set()
    closer.join(60)
    assert running.result(60).shape == (1, 1)
    with pytest.raises(CancelledError):
        stage.submit(np.zeros((1, 1)))
    with pytest.raises(ValueError, match="worker"):
        Stage("none", "rows", [], TimeTable())


def test_no_more_is_at_work_than_there_are_cores():
    lock = threading.Lock()
    held, most = 0, 0

    def work(rows, needs):
        nonlocal held, most
        with lock:
            held += needs
            most = max(most, held)
        time.sleep(0.005)
        with lock:
            held -= needs
        return rows

    times = TimeTable()
    with (
        Crew(3) as cores,
        Stage("narrow", "rows", [lambda rows: work(rows, 1)] * 4, times, crew=cores) as narrow,
        Stage("wide", "rows", [lambda rows: work(rows, 3)] * 2, times, crew=cores, needs=9) as wide,
    ):
        orders = [stage.submit(np.zeros((1, 1))) for _ in range(10) for stage in (narrow, wide)]
        for order in orders:
            order.result(60)
    assert most == 3


def test_a_task_that_raises_is_reported_and_neither_ends_a_thread_nor_takes_cores_along(monkeypatch):
    errors, finished = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(str(args.exc_value)))

    def fail():
        raise RuntimeError("a bug")

    with Crew(2) as cores:
        for _ in range(5):
            cores.start(fail, needs=2)
        cores.start(finished.set, needs=2)
        assert finished.wait(60)
        assert all(thread.is_alive() for thread in cores._threads)
    assert errors == ["a bug"] * 5


def test_an_order_that_was_cancelled_does_not_keep_the_others_waiting():
    began, go = threading.Event(), threading.Event()

    def slow(rows):
        began.set()
        go.wait(60)
        return rows

    with Stage("slow", "rows", [slow], TimeTable(), joined=4) as stage:
        first = stage.submit(np.zeros((1, 1)))
        assert began.wait(60)
        cancelled, last = stage.submit(np.ones((1, 1))), stage.submit(np.full((2, 1), 2.0))
        assert cancelled.cancel()
        go.set()
        assert first.result(60).tolist() == [[0.0]]
        assert last.result(60).tolist() == [[2.0], [2.0]]


def test_a_result_that_cannot_be_cut_into_rows_is_an_error_of_the_order():
    with Stage("odd", "rows", [lambda rows: {0: rows}], TimeTable()) as stage, pytest.raises((KeyError, TypeError)):
        stage.submit(np.zeros((1, 1))).result(60)


def test_a_stage_that_gives_too_few_rows_says_so():
    with (
        Stage("short", "rows", [lambda rows: rows[:1]], TimeTable()) as stage,
        pytest.raises(RuntimeError, match="short got 2 rows but returned 1"),
    ):
        stage.submit(np.zeros((2, 1))).result(60)
