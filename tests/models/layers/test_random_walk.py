"""Bipartite random walk of RSKP: its low-rank limit equals the T x T solve, its steps converge to it, masks hold."""

import pytest
import torch

from wtal.models.layers.random_walk import (
    Means,
    Walk,
    affinity,
    among_snippets,
    closed_form,
    direct,
    iterated,
    memberships,
)
from wtal.models.layers.similarity import cosine


def scene(lengths=(40, 17, 1), means=8, width=12, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), max(lengths), width, generator=generator, dtype=dtype) * mask[..., None]
    found = torch.randn(len(lengths), means, width, generator=generator, dtype=dtype)
    return x, Means(found, torch.ones(found.shape[:2], dtype=torch.bool)), mask


@pytest.mark.parametrize("w", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("means", [1, 8, 60])
def test_the_low_rank_form_equals_the_solve(w, means):
    x, found, mask = scene(means=means)
    z = affinity(x, found, mask, 5.0)
    left, right = (form(x, found.features, z, w) for form in (closed_form, direct))
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)
    assert (left[~mask] == 0).all()


@pytest.mark.parametrize("toggled", [False, True])
def test_the_low_rank_form_equals_the_solve_in_single_precision_and_in_gradients(toggled):
    """Repeat after a change of the number of threads, as in extraction."""
    before = torch.get_num_threads()
    if toggled:
        torch.set_num_threads(1)
        torch.set_num_threads(before)
    x, found, mask = scene((300, 211), width=32, dtype=torch.float32)
    results = []
    for form in (closed_form, direct):
        leaves = [x.clone().requires_grad_(), found.features.clone().requires_grad_()]
        walked = form(*leaves, affinity(leaves[0], Means(leaves[1], found.present), mask, 5.0), 0.5)
        results.append([walked, *torch.autograd.grad(walked.square().sum(), leaves)])
    for left, right in zip(*results, strict=True):
        assert (left - right).abs().max() <= 1e-5 * right.abs().max()


def test_it_is_the_inverse_of_equation_6():
    x, found, mask = scene((9,))
    z = affinity(x, found, mask, 5.0)[0]
    n = z.T / z.sum(dim=0)[:, None]
    inverse = torch.linalg.inv(torch.eye(9, dtype=z.dtype) - 0.25 * z @ n)
    expected = 0.5 * inverse @ (0.5 * z @ found.features[0] + x[0])
    torch.testing.assert_close(closed_form(x, found.features, z[None], 0.5)[0], expected)


def test_steps_come_ever_nearer_to_the_closed_form():
    x, found, mask = scene()
    z = affinity(x, found, mask, 5.0)
    end = closed_form(x, found.features, z, 0.5)
    errors = [(iterated(x, found.features, z, 0.5, steps) - end).abs().max().item() for steps in (1, 3, 10, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12


@pytest.mark.parametrize("form", ["closed", "direct", "iterated", "alternated", "single"])
def test_a_batch_is_its_videos_and_absent_means_do_nothing(form):
    walk = Walk(form, 0.5, 5.0, 3)
    x, found, mask = scene(means=5)
    more = found.beside(Means(torch.full((3, 4, 12), 9.0, dtype=x.dtype), torch.zeros(3, 4, dtype=torch.bool)))
    together = walk(x, more, mask)
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        alone = walk(x[i : i + 1, :length], Means(*(part[i : i + 1] for part in found)), mask[i : i + 1, :length])
        torch.testing.assert_close(together[i, :length], alone[0])
        assert (together[i, length:] == 0).all()


def test_affinities_and_memberships_sum_to_one():
    x, found, mask = scene()
    z = affinity(x, found, mask, 5.0)
    torch.testing.assert_close(z.sum(dim=-1), mask.to(z.dtype))
    torch.testing.assert_close(memberships(z).sum(dim=-1), torch.ones(3, 8, dtype=z.dtype))
    none = affinity(x, found._replace(present=torch.zeros_like(found.present)), mask, 5.0)
    assert (none == 0).all()


def test_all_snippets_as_means_is_a_plain_walk():
    x, _, mask = scene((7, 4))
    z = affinity(x[:1], Means(x[:1], mask[:1]), mask[:1], 5.0)
    walked = x[0]
    for _ in range(60):
        walked = 0.5 * z[0] @ walked + 0.5 * x[0]
    torch.testing.assert_close(among_snippets(x, mask, 5.0, 0.5)[0], walked)


def test_cosines_and_their_gradients():
    x, found, _ = scene((6, 5))
    for vectors in (found.features, found.features[0]):
        leaves = [x.clone().requires_grad_(), vectors.clone().requires_grad_()]
        assert torch.autograd.gradcheck(cosine, [leaves[0][:, :5], leaves[1]])
        expected = torch.nn.functional.cosine_similarity(x[:, :, None], vectors.reshape(-1, 1, 8, 12), dim=-1)
        torch.testing.assert_close(cosine(*leaves), expected)
    zero = torch.zeros(1, 2, 12, requires_grad=True)
    cosine(zero, torch.ones(3, 12)).sum().backward()
    assert (zero.grad == 0).all()
