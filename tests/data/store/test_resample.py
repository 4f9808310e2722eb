"""Resampling of features between grids."""

from fractions import Fraction

import numpy as np
import pytest

from wtal.data.grid import SnippetGrid
from wtal.data.store.resample import resampled


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_resampling_keeps_the_ends_and_short_videos(frames):
    grid, target = SnippetGrid(Fraction(2), frames, Fraction(1), 1), SnippetGrid(Fraction(25), 60, Fraction(16), 16)
    values = np.arange(frames, dtype=np.float32)[:, None]
    found = resampled(values, grid, target)
    assert found.shape == (target.num_snippets, 1)
    assert found.dtype == np.float32
    assert values.min() <= found.min() <= found.max() <= values.max()
    assert resampled(values, grid, grid) is values
