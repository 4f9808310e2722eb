"""What tests of several commands share."""

import pytest

from tests.support.bases import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder with planted features, their annotations, two runs, and what else calls want; not to be changed."""
    root = tmp_path_factory.mktemp("base")
    make_base(root)
    return root
