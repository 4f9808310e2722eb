"""Features of segments of any length as a fixed number of bins: RoIAlign over time (He et al., ICCV 2017).

A sample between two snippets is a linear interpolation and a bin the mean of its samples, so a bin is a weighted sum of
snippets.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

_ROUNDING = 1e-5
"""Samples a bin that a length may exceed a whole number by without one more being taken."""


def bin_means(
    features: Tensor, lengths: Tensor, borders: Tensor, video: Tensor, bins: int, to_the_right: bool = False
) -> Tensor:
    """(B, T, D), lengths (B,), borders (N, 2) in snippets, video (N,) -> (N, bins, D): the mean of each bin's samples.

    Snippet i reaches from i to i + 1, and its feature stands in its middle; beyond a video's ends all is zero. A bin
    has a sample for each snippet of its length, rounded up. A segment shorter than a snippet is one snippet long, about
    its middle, or `to_the_right` of its start (torchvision's operator without `aligned`).
    """
    start, length = borders[:, 0] - 0.5, borders[:, 1] - borders[:, 0]
    lasting = length.clamp(min=1.0)
    if not to_the_right:
        start = start - (lasting - length) / 2
    samples = (lasting / bins - _ROUNDING).ceil().long().clamp(min=1)  # (N,) of a bin
    per_bin = samples.repeat_interleave(bins)  # (N * bins,)
    first = per_bin.cumsum(0) - per_bin
    row = torch.arange(len(per_bin), device=features.device).repeat_interleave(per_bin)  # (S,) the bin of each sample
    inside = (torch.arange(len(row), device=features.device) - first[row]).to(borders.dtype)
    segment = row // bins
    position = start[segment] + (row % bins + (inside + 0.5) / per_bin[row]) * (lasting / bins)[segment]
    left = position.floor()
    share = position - left
    snippet = torch.stack([left, left + 1], dim=1).long()  # (S, 2)
    weight = torch.stack([1 - share, share], dim=1) / per_bin[row][:, None]
    real = (snippet >= 0) & (snippet < lengths[video[segment]][:, None])
    taps = (snippet + features.shape[1] * video[segment][:, None]).where(real, 0)
    means: Tensor = embedding_bag(
        taps.flatten(),
        features.flatten(0, 1),
        2 * first,
        mode="sum",
        per_sample_weights=weight.where(real, 0.0).flatten().to(features.dtype),
    )
    return means.reshape(len(borders), bins, features.shape[2])
