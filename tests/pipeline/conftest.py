"""Common fixtures of tests of several commands."""

import sys

import pytest

from tests.support.bases import make_base
from wtal.pipeline.recipe import Recipe


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Folder with planted features, annotations, two runs and more input of commands; not to be changed."""
    root = tmp_path_factory.mktemp("base")
    make_base(root)
    return root


@pytest.fixture(scope="session")
def opened():
    """Paths of `run.json` and `finished.json`, as they are opened."""
    paths = []

    def watch(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(("run.json", "finished.json")):
            paths.append(arguments[0])

    sys.addaudithook(watch)
    return paths


@pytest.fixture
def counted(monkeypatch, opened):
    """Execute work; return how often each `run.json` and `finished.json` was opened, and a recipe parsed."""
    parsed = []
    parse = Recipe.parse.__func__

    def counting(cls, values, *arguments, **options):
        parsed.append(arguments)
        return parse(cls, values, *arguments, **options)

    def watched(deed, *arguments):
        monkeypatch.setattr(Recipe, "parse", classmethod(counting))
        opened.clear()
        parsed.clear()
        deed(*arguments)
        return {path: opened.count(path) for path in opened}, len(parsed)

    return watched
