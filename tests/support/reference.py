"""Reference data of ../shared: its folder, a mark for tests that need it, and its inputs."""

import zlib
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference data in ../shared, which is absent")


def reference_normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers that depend only on `name`, as in the reference."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return rng.standard_normal(shape).astype(np.float32)


def reference_weights(state: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Weights of the reference: key -> array of the listed shape."""
    weights = {}
    for key, shape in state.items():
        x = reference_normal(key, tuple(shape))
        if key.endswith("num_batches_tracked"):
            x = np.zeros(shape, dtype=np.int64)
        elif key.endswith("running_var"):
            x = 1 + 0.1 * np.abs(x)
        elif key.endswith("running_mean"):
            x = 0.1 * x
        elif len(shape) >= 2:
            x = x / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x = 0.01 * x
        weights[key] = x if x.dtype == np.int64 else x.astype(np.float32)
    return weights
