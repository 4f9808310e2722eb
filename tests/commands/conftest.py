"""Fixtures of tests that call commands in a planted workspace."""

import pytest


@pytest.fixture
def here(planted, monkeypatch):
    """The `planted` workspace of a test file, as the working directory."""
    monkeypatch.chdir(planted)
    monkeypatch.setenv("WTAL_WORKSPACE", "ws")
    return planted
