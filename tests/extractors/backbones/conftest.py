"""Fixture over the encoders of transformers."""

import pytest

from tests.support.networks import FAMILIES


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param
