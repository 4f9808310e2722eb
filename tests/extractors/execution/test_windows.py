"""Windows of snippets from chunks of frames, against the definition."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.videos import chunks
from wtal.data.grid import SnippetGrid
from wtal.extractors.execution.windows import Windows


def brute_force(frames, stride, span, tail):
    grid = SnippetGrid(Fraction(25), len(frames), Fraction(stride), span, tail)
    windows = [frames[np.clip(np.array(grid.window(i)), 0, len(frames) - 1)] for i in range(grid.num_snippets)]
    return np.stack(windows) if windows else np.empty((0, span, *frames.shape[1:]), frames.dtype)


def stream(frames, windows, sizes):
    """Collect all batches, and the largest number of frames kept between two chunks."""
    batches, kept = [], 0
    for chunk in chunks(frames, sizes):
        batches += windows.push(chunk)
        kept = max(kept, windows.held)
    batches += windows.finish()
    return batches, kept


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(1, 70),
    stride=st.integers(1, 20),
    span=st.integers(1, 40),
    tail=st.sampled_from(["pad", "drop"]),
    batch=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_windows_equal_the_grid(count, stride, span, tail, batch, sizes):
    frames = np.arange(count * 2, dtype=np.float32).reshape(count, 1, 2, 1)
    batches, kept = stream(frames, Windows(stride, span, tail, batch), sizes)
    expected = brute_force(frames, stride, span, tail)
    assert [first for first, _ in batches] == list(np.cumsum([0, *(len(b) for _, b in batches)])[:-1])
    assert all(len(clips) <= batch for _, clips in batches)
    got = np.concatenate([clips for _, clips in batches]) if batches else expected[:0]
    np.testing.assert_array_equal(got, expected)
    assert kept <= span + (batch + 1) * stride


def test_windows_come_as_soon_as_a_batch_of_them_is_complete():
    windows = Windows(stride=4, span=8, batch=2)
    frames = np.zeros((9, 1, 1, 3), np.uint8)
    assert list(windows.push(frames)) == []
    (batch,) = windows.push(frames[:1])
    assert batch[0] == 0
    assert batch[1].shape == (2, 8, 1, 1, 3)
    assert batch[1].dtype == np.uint8
    assert [(first, len(clips)) for first, clips in windows.push(frames[:8])] == [(2, 2)]
    assert [(first, len(clips)) for first, clips in windows.finish()] == [(4, 1)]


def test_memory_does_not_grow_with_the_video():
    windows = Windows(stride=8, span=16, batch=4)
    most = 0
    for _ in range(200):
        list(windows.push(np.zeros((10, 2, 2, 1), np.uint8)))
        most = max(most, windows.held)
    assert windows.count == 2000
    assert most <= 16 + 4 * 8


def test_windows_refuse_what_is_not_positive():
    with pytest.raises(ValueError, match="batch"):
        Windows(8, 16, batch=0)
    with pytest.raises(ValueError, match="positive"):
        Windows(0, 16)


def test_what_overlaps_is_copied_once():
    windows = Windows(4, 12, batch=3)
    batches = [clips for _, clips in [*windows.push(np.arange(60.0).reshape(60, 1, 1, 1)), *windows.finish()]]
    shared = [np.shares_memory(clips[0], clips[1]) for clips in batches if len(clips) > 1]
    assert shared == [False, True, True, True, False]
