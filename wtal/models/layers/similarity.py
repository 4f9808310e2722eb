"""Cosine similarity between the many snippets of videos and a few vectors, by one matrix product.

The snippets are neither copied nor normalized: their lengths are divided out of the products, forwards and backwards,
since at the papers' widths a CPU spends its time in passes over (B, T, E) features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

_SHORTEST = 1e-12


def cosine(x: Tensor, vectors: Tensor) -> Tensor:
    """(B, T, E), (K, E) or (B, K, E) -> (B, T, K), in at least single precision; 0 for a snippet of zeros."""
    with torch.autocast(x.device.type, enabled=False):
        kind = torch.promote_types(torch.float32, x.dtype)
        units = normalize(vectors.to(kind), dim=-1)
        similarity: Tensor = _Cosine.apply(x.to(kind), units)  # type: ignore[no-untyped-call]
        return similarity


class _Cosine(torch.autograd.Function):
    """(B, T, E), unit vectors (K, E) or (B, K, E) -> (B, T, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, units: Tensor) -> Tensor:
        """Multiply both, and divide by the lengths of the snippets."""
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = lengths.reciprocal().masked_fill_(lengths <= _SHORTEST, 0.0)
        similarity = (x @ units.transpose(-1, -2)).mul_(inverse)
        ctx.save_for_backward(x, units, inverse, similarity)
        return similarity

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of a / |x|: that of a, minus the component along x, which only changes its length."""
        x, units, inverse, similarity = ctx.saved_tensors
        (gradient,) = gradients
        of_product = gradient * inverse
        along = (gradient * similarity).sum(dim=-1, keepdim=True).mul_(inverse * inverse)
        of_x = (of_product @ units).addcmul_(x, along, value=-1.0)
        if units.ndim == 2:
            return of_x, of_product.flatten(0, 1).T @ x.flatten(0, 1)
        return of_x, of_product.transpose(1, 2) @ x
