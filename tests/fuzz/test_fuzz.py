"""Damaged files and odd numbers: no traceback, no hang, the right exit codes, and no files elsewhere."""

import os

import pytest

from tests.fuzz.planted import plant
from tests.fuzz.run import run_case, scratch

CASES, PART = 500, 50


@pytest.fixture(scope="module")
def planted():
    with scratch() as folder:
        (folder / "planted").mkdir()
        plant(folder / "planted")
        yield folder / "planted"


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Switch off fsync; nothing here needs to survive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def check(planted, numbers, slow=False):
    outcomes = [run_case(planted, planted.with_name("case"), 0, number, slow) for number in numbers]
    failed = [str(outcome) for outcome in outcomes if outcome.faults]
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize(
    "first", [pytest.param(first, marks=pytest.mark.slow if first else ()) for first in range(0, CASES, PART)]
)
def test_damage_ends_in_one_line(planted, first):
    check(planted, range(first, first + PART))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 32, 8))
def test_damage_of_what_is_extracted_or_drawn_ends_in_one_line(planted, first):
    check(planted, range(first, first + 8), slow=True)
