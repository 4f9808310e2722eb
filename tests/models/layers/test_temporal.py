"""Operations over snippets, where each video is independent of the others."""

import pytest
import torch
from torch import nn

from wtal.data.batch import SnippetBatch
from wtal.models.layers.losses import binary_cross_entropy, co_activity, cross_entropy, with_background
from wtal.models.layers.temporal import (
    TemporalConv,
    masked_mean,
    masked_softmax,
    masked_topk_mean,
    pack,
    unpack,
)

LENGTHS = [5, 1, 8, 2]


def padded(width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    videos = [torch.randn(n, width, generator=generator) for n in LENGTHS]
    x = torch.full((len(LENGTHS), max(LENGTHS), width), 99.0)
    for row, video in zip(x, videos, strict=True):
        row[: len(video)] = video
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return x, mask, videos


def test_rows_and_back():
    x, mask, videos = padded()
    rows = pack(x, mask)
    assert torch.equal(rows, torch.cat(videos))
    assert torch.equal(unpack(rows, mask), torch.where(mask[..., None], x, torch.zeros(())))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_torchs_own_on_each_video(kernel, bias):
    x, mask, videos = padded()
    ours = TemporalConv(3, 4, kernel, bias)
    theirs = nn.Conv1d(3, 4, kernel, padding=kernel // 2, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    wanted = torch.cat([theirs(video.t()[None])[0].t() for video in videos])
    torch.testing.assert_close(ours(pack(x, mask), mask), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_scaled_rows_is_that_of_each_scaling(kernel, bias):
    x, mask, _ = padded()
    rows, conv = pack(x, mask).requires_grad_(), TemporalConv(3, 4, kernel, bias)
    scales = torch.rand(2, len(rows), generator=torch.Generator().manual_seed(2)).requires_grad_()
    each = torch.cat([conv(scale[:, None] * rows, mask) for scale in scales])
    together = conv.of_scaled(rows, scales, mask)
    torch.testing.assert_close(together, each, rtol=1e-5, atol=1e-6)
    inputs = (rows, scales, *conv.parameters())
    wanted, got = (torch.autograd.grad((result**3).sum(), inputs) for result in (each, together))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_even_kernels_have_no_middle():
    with pytest.raises(ValueError, match="odd"):
        TemporalConv(3, 4, 2)


def test_reductions_see_real_snippets_alone():
    x, mask, videos = padded()
    for i, video in enumerate(videos):
        torch.testing.assert_close(masked_mean(x, mask)[i], video.mean(dim=0))
        torch.testing.assert_close(masked_softmax(x, mask)[i, : len(video)], video.softmax(dim=0))
    assert (masked_softmax(x, mask)[~mask] == 0).all()


@pytest.mark.parametrize(("rounding", "counts"), [("down", [2, 1, 4, 1]), ("up", [3, 1, 4, 1])])
def test_the_mean_of_the_top(rounding, counts):
    x, mask, videos = padded()
    for lowest in (False, True):
        found = masked_topk_mean(x, mask, 2, rounding, lowest)
        for i, (video, count) in enumerate(zip(videos, counts, strict=True)):
            wanted = video.topk(count, dim=0, largest=not lowest).values.mean(dim=0)
            torch.testing.assert_close(found[i], wanted)


def test_labels_sum_to_one_with_their_background():
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    third = 1 / 3
    torch.testing.assert_close(
        with_background(labels, 1.0), torch.tensor([[third, third, 0, third], [0, 0, 0, 1.0]]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        with_background(labels, 0.0), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0, 0]]), rtol=0, atol=1e-6
    )


def test_cross_entropies_by_hand():
    logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    wanted = -(0.5 * logits.log_softmax(1)).sum()
    torch.testing.assert_close(cross_entropy(logits, target), wanted)
    scores = logits.softmax(1)
    each = -(target * scores.log() + (1 - target) * (1 - scores).log())
    torch.testing.assert_close(binary_cross_entropy(scores, target, 20), each.sum() / 2)
    torch.testing.assert_close(binary_cross_entropy(scores, target, 1), each.sum())
    torch.testing.assert_close(binary_cross_entropy(scores, target, 20, authors=True), each.mean())


def test_co_activity_by_the_definition():
    generator = torch.Generator().manual_seed(1)
    features, cas = torch.rand(4, 6, 5, generator=generator), torch.randn(4, 6, 3, generator=generator)
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 1]])
    mask = torch.arange(6)[None] < torch.tensor([6, 4, 5, 3])[:, None]
    batch = SnippetBatch({"rgb": features}, mask, labels)

    def parts(i, c):
        n = int(mask[i].sum())
        a, x = cas[i, :n, c].softmax(0), features[i, :n]
        return a @ x, ((1 - a) / (n - 1)) @ x

    def distance(u, v):
        return 1 - torch.cosine_similarity(u, v, dim=0)

    total = torch.zeros(())
    for i in (0, 2):
        shared = [c for c in range(3) if labels[i, c] and labels[i + 1, c]]
        for c in shared:
            (h1, l1), (h2, l2) = parts(i, c), parts(i + 1, c)
            near = distance(h1, h2)
            one = torch.relu(near - distance(h1, l2) + 0.5) + torch.relu(near - distance(h2, l1) + 0.5)
            total += 0.5 * one / len(shared) / 2
    torch.testing.assert_close(co_activity(features, cas, batch, pairs=2), total)
    assert co_activity(features, cas, SnippetBatch({"rgb": features}, mask, torch.eye(3)[[0, 1, 2, 0]]), 2) == 0
