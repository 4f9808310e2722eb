"""Profiles of property tests, and the fixture of a CUDA device."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

settings.register_profile("explore", deadline=None)  # no test asserts a time
settings.register_profile("wtal", settings.get_profile("explore"), derandomize=True)  # what fails is the change's fault
settings.load_profile("wtal")


@pytest.fixture
def cuda() -> str:
    """A CUDA device; skips without one, and fails instead where WTAL_REQUIRE_GPU=1."""
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("WTAL_REQUIRE_GPU") == "1":
            pytest.fail("WTAL_REQUIRE_GPU=1 but torch sees no CUDA device")
        pytest.skip("needs a CUDA device")
    return "cuda"
