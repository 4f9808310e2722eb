"""Clusters of snippets and their labels: optimal transport by Sinkhorn iterations, for CASE (ICCV 2023)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

_SHARPNESS = 20.0
"""Factor from cosines to the logits of a transport plan."""
_STEPS = 3


def transported(cosines: Tensor, mass: Tensor, prior: Tensor | None = None) -> Tensor:
    """(N, K) cosines, mass (K,) summing to 1 -> labels (N, K): rows sum to 1, column k holds a share mass_k of all.

    exp(20 cosine), times `prior` (N, K), is scaled alternately along columns and rows, three times; so columns only
    approximate their mass. No gradient.
    """
    with torch.no_grad():
        # A common factor, or one per column, changes nothing.
        plan = (_SHARPNESS * (cosines.double() - cosines.max())).exp()
        plan = plan if prior is None else plan * prior.double()
        for _ in range(_STEPS):
            plan = plan / _positive(plan.sum(dim=0, keepdim=True)) * mass.double()
            plan = plan / _positive(plan.sum(dim=1, keepdim=True))
        return plan.to(cosines.dtype)


def centres(rows: Tensor, shares: Tensor) -> Tensor:
    """(N, E), (N, K) -> (K, E): each weighted sum of rows, normalized to length 1."""
    return normalize(shares.T @ rows, dim=1)


def rank_prior(ranks: Tensor, foreground: Tensor, deviation: float) -> Tensor:
    """(N,), (K,) in [0, 1] -> (N, K): a Gaussian of the distance of ranks from 1 - foreground, 1 at its peak."""
    return (-0.5 * ((ranks[:, None] - (1.0 - foreground)) / deviation) ** 2).exp()


def _positive(sums: Tensor) -> Tensor:
    return sums.clamp(min=torch.finfo(sums.dtype).tiny)
