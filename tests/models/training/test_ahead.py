"""Items that a thread prepares ahead: the same ones, in order, one at a time."""

import threading

import pytest

from wtal.models.training.ahead import made_ahead


def test_the_same_items_in_the_same_order():
    with made_ahead(iter(range(5))) as items:
        assert list(items) == [0, 1, 2, 3, 4]
    with made_ahead(iter(())) as items:
        assert list(items) == []
    with made_ahead(iter([None, None])) as items:
        assert list(items) == [None, None]


def test_the_next_item_is_made_by_another_thread_while_the_caller_has_the_last():
    made, second = [], threading.Event()

    def making():
        for number in range(4):
            made.append((number, threading.get_ident()))
            if number == 1:
                second.set()
            yield number

    with made_ahead(making()) as items:
        assert next(items) == 0
        assert second.wait(60)
    assert [number for number, _ in made] == [0, 1]
    assert {thread for _, thread in made}.isdisjoint({threading.get_ident()})


def test_an_error_is_raised_where_its_item_is_asked_for():
    def making():
        yield 0
        raise ValueError("of the second")

    with made_ahead(making()) as items:
        assert next(items) == 0
        with pytest.raises(ValueError, match="of the second"):
            next(items)


def test_no_condition_is_entered_where_ctrl_c_may_leave_it_locked(monkeypatch):
    entered = []

    def enter(condition):
        entered.append(condition)
        return condition._lock.__enter__()

    with made_ahead(iter(range(1, 100))) as items:
        assert next(items) == 1
        monkeypatch.setattr(threading.Condition, "__enter__", enter)
        assert sum(items) == sum(range(2, 100))
        assert not entered
