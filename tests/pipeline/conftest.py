"""Common fixtures of tests of several commands."""

import pytest

from tests.support.bases import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Folder with planted features, annotations, two runs and more input of commands; not to be changed."""
    root = tmp_path_factory.mktemp("base")
    make_base(root)
    return root
