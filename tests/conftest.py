"""Profiles of property tests, the order of the files, and the fixture of a CUDA device."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

settings.register_profile("explore", deadline=None)  # no test asserts a time
settings.register_profile(
    "wtal", settings.get_profile("explore"), derandomize=True
)  # failures must come from the change
settings.load_profile("wtal")

LONGEST = (
    "pipeline/test_chain.py",
    "test_benchmarks.py",
    "pipeline/extraction/test_cluster.py",
    "commands/test_interrupt.py",
    "extractors/test_runtime.py",
    "pipeline/extraction/test_spread.py",
    "models/heads/test_heads.py",
    "extractors/backbones/test_csn.py",
    "pipeline/ensembles/test_ensemble.py",
    "pipeline/judging/test_run_pictures.py",
    "extractors/backbones/test_backbone_contract.py",
    "extractors/backbones/test_backbone_videos.py",
    "extractors/tvl1/test_torch_engine.py",
    "extractors/tvl1/test_numba_engine.py",
    "test_docs.py",
    "pipeline/extraction/test_extract.py",
    "models/training/test_trainer.py",
    "data/store/test_interruptions.py",
)
"""Slow files, which come first when several processes take one file at a time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: order.get(item.path.relative_to(tests).as_posix(), len(order)))


@pytest.fixture
def cuda() -> str:
    """Provide a CUDA device; skip without one, or fail with WTAL_REQUIRE_GPU=1."""
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("WTAL_REQUIRE_GPU") == "1":
            pytest.fail("WTAL_REQUIRE_GPU=1 but torch sees no CUDA device")
        pytest.skip("needs a CUDA device")
    return "cuda"
