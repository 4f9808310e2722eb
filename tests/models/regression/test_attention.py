"""Attention by blocks against plain attention with a mask over all pairs, and its memory."""

import math

import pytest
import torch

from wtal.models.regression.attention import attend


def plain(query, key, value, real, heads, window):
    """Compute one video, one head and one position after another."""
    answer = torch.zeros_like(query)
    size = query.shape[2] // heads
    for video in range(len(query)):
        count = int(real[video].sum())
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(count):
                near = [s for s in range(count) if window is None or abs(s - t) <= window // 2]
                logits = key[video, near, part] @ query[video, t, part] / math.sqrt(size)
                answer[video, t, part] = logits.softmax(dim=0) @ value[video, near, part]
    return answer


@pytest.mark.parametrize("window", [1, 3, 7, 19, None])
@pytest.mark.parametrize("lengths", [(41, 12, 1), (19,), (5, 3), (1,), (36, 18)])
def test_blocks_equal_plain_attention(window, lengths):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, len(lengths), max(lengths), 8, generator=generator)
    real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ours = attend(query, key, value, real, 2, window)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours[real], plain(query, key, value, real, 2, window)[real], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [5, None])
def test_padding_has_no_gradient(window):
    generator = torch.Generator().manual_seed(0)
    key, value = (torch.randn(2, 20, 8, generator=generator).requires_grad_() for _ in range(2))
    real = torch.arange(20)[None] < torch.tensor([20, 9])[:, None]
    attend(torch.randn(2, 20, 8, generator=generator), key, value, real, 2, window)[real].sum().backward()
    for x in (key, value):
        assert x.grad[0].abs().sum() > 0
        assert (x.grad[1, 9:] == 0).all()
        assert x.grad.isfinite().all()


def test_no_tensor_grows_with_the_square_of_time():
    """Measure saved tensors, which are as large as anything else in training."""
    length, window = 4000, 19
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    query, key, value = (torch.randn(1, length, 8, requires_grad=True) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(query, key, value, torch.ones(1, length, dtype=torch.bool), 2, window)
    assert sizes
    assert max(sizes) <= 4 * window * length
