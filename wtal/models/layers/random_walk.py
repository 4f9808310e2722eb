"""Random walks between the snippets of a video and a few means, which propagate the means to all snippets.

RSKP (CVPR 2022, section 3.3, and supplement, section 2). Snippets F (T, E) and means M (K, E) are the two sides of a
bipartite graph with affinities Z (T, K), softmax over means of sharpness times cosine (equation 2), and N (K, T), the
columns of Z normalized to sum to one. A walk repeats

    M(t) = w N F(t-1) + (1 - w) M(0)          F(t) = w Z M(t) + (1 - w) F(0)          (equations 4 and 5)

and converges to F* = (1 - w) (I - w^2 Z N)^-1 (w Z M + F) (equation 6), a T x T solve. Z N has rank K, so

    (I - w^2 Z N)^-1 = I + w^2 Z (I - w^2 N Z)^-1 N

holds exactly (Woodbury), with a K x K solve, and F* = (1 - w) (F + Z (w M + w^2 (I - w^2 N Z)^-1 N (w Z M + F))):
with a single pass over the snippets. Z N is row-stochastic, so the matrix is well conditioned for w < 1.

All functions are batched; masks mark the snippets and means of each video, and rows of absent snippets and columns of
absent means are zero.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wtal.models.layers.similarity import cosine

Propagation = Literal["closed", "direct", "iterated", "alternated", "single", "scores"]


_SMALL = 64
"""Largest size of systems that are solved as a batch."""


class Means(NamedTuple):
    """Means of B videos: `features` (B, K, E), and which are `present`, (B, K)."""

    features: Tensor
    present: Tensor

    def beside(self, other: "Means") -> "Means":
        """Concatenate both sets of means."""
        return Means(
            torch.cat([self.features, other.features.to(self.features)], dim=1),
            torch.cat([self.present, other.present], dim=1),
        )


@dataclass(frozen=True)
class Walk:
    """A way to propagate means into snippets.

    `form`: equation 6 by a K x K solve (`closed`; `scores` is the same, for class scores) or by a T x T solve
    (`direct`); `steps` steps of equations 4 and 5 (`iterated`) or of these with fixed means (`alternated`); or Z M
    alone (`single`). `w` is the weight of the propagated features, `sharpness` that of the affinities.
    """

    form: Propagation
    w: float
    sharpness: float
    steps: int

    def __call__(self, x: Tensor, means: Means, mask: Tensor) -> Tensor:
        """(B, T, E), K means, (B, T) -> (B, T, E)."""
        if self.form == "alternated":
            return alternated(x, means, mask, self.sharpness, self.w, self.steps)
        z = affinity(x, means, mask, self.sharpness)
        if self.form == "single":
            return z @ means.features
        if self.form == "iterated":
            return iterated(x, means.features, z, self.w, self.steps)
        solve = direct if self.form == "direct" else closed_form
        return solve(x, means.features, z, self.w)

    def of_scores(self, scores: Tensor, of_means: Tensor, x: Tensor, means: Means, mask: Tensor) -> Tensor:
        """(B, T, C), (B, K, C) -> (B, T, C): equation 6 on scores, along the affinities of features (B, T, E)."""
        return closed_form(scores, of_means, affinity(x, means, mask, self.sharpness), self.w)


def affinity(x: Tensor, means: Means, mask: Tensor, sharpness: float) -> Tensor:
    """(B, T, E), K means, (B, T) -> (B, T, K): softmax over present means, 0 for an absent snippet or mean."""
    similarity = cosine(x, means.features)
    absent = ~means.present[:, None, :]
    # A finite floor: the softmax of a video without any mean stays finite, and is zeroed below.
    logits = (sharpness * similarity).masked_fill(absent, torch.finfo(similarity.dtype).min)
    shares: Tensor = logits.softmax(dim=-1)
    return shares.masked_fill(absent | ~mask[:, :, None], 0.0)


def memberships(z: Tensor) -> Tensor:
    """(B, T, K) affinities -> (B, K, T): each snippet's share in each mean, summing to one over time."""
    return normalize(z, p=1, dim=1).transpose(1, 2)


def closed_form(x: Tensor, means: Tensor, z: Tensor, w: float) -> Tensor:
    """(B, T, E), (B, K, E), (B, T, K) -> (B, T, E): the limit of the walk, by a K x K solve."""
    n = memberships(z)
    round_trip = n @ z
    start = n @ x + w * (round_trip @ means)
    inner = torch.eye(z.shape[-1], device=z.device, dtype=z.dtype) - w * w * round_trip
    # The inverse of such a small, well-conditioned matrix is as exact as a solve, and many times faster on a CPU.
    limit = torch.linalg.inv(_single(inner)) @ _single(start)
    propagated = (w * means + w * w * limit).to(x.dtype)
    return torch.baddbmm(x, z.to(x.dtype), propagated, beta=1 - w, alpha=1 - w)


def direct(x: Tensor, means: Tensor, z: Tensor, w: float) -> Tensor:
    """(B, T, E), (B, K, E), (B, T, K) -> (B, T, E): the same, by the T x T solve of equation 6."""
    inner = torch.eye(z.shape[1], device=z.device, dtype=z.dtype) - w * w * (z @ memberships(z))
    return (1 - w) * _solve(inner, w * (z @ means) + x)


def iterated(x: Tensor, means: Tensor, z: Tensor, w: float, steps: int) -> Tensor:
    """(B, T, E), (B, K, E), (B, T, K) -> (B, T, E): `steps` steps of equations 4 and 5."""
    n, walked = memberships(z), x
    for _ in range(steps):
        walked = w * (z @ (w * (n @ walked) + (1 - w) * means)) + (1 - w) * x
    return walked


def alternated(x: Tensor, means: Means, mask: Tensor, sharpness: float, w: float, steps: int) -> Tensor:
    """(B, T, E), K means, (B, T) -> (B, T, E): fixed means; snippets and affinities updated in turn.

    The alternative walk of section 3.3, below equation 6.
    """
    walked = x
    for _ in range(steps):
        walked = w * (affinity(walked, means, mask, sharpness) @ means.features) + (1 - w) * x
    return walked


def among_snippets(x: Tensor, mask: Tensor, sharpness: float, w: float) -> Tensor:
    """(B, T, E), (B, T) -> (B, T, E): the limit of a walk with every snippet as a mean (supplement, equation 3)."""
    z = affinity(x, Means(x, mask), mask, sharpness)
    inner = torch.eye(z.shape[-1], device=z.device, dtype=z.dtype) - w * z
    return (1 - w) * _solve(inner, x)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """(B, T, T), (B, T, E) -> (B, T, E)."""
    matrix, right = _single(matrix), _single(right)
    if matrix.shape[-1] <= _SMALL or not len(matrix):
        solved: Tensor = torch.linalg.solve(matrix, right)
        return solved
    # Large ones one by one: torch's batched solve on a CPU loses digits once the number of threads has changed.
    return torch.stack([torch.linalg.solve(square, values) for square, values in zip(matrix, right, strict=True)])


def _single(x: Tensor) -> Tensor:
    """Convert to at least single precision, which factorizations need."""
    return x.to(torch.promote_types(torch.float32, x.dtype))
