"""Features of segments of any length as a fixed number of bins: RoIAlign over time (He et al., ICCV 2017).

A sample between two snippets is linearly interpolated and a bin is the mean of its samples, so a bin is a weighted sum
of snippets.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

_ROUNDING = 1e-5
"""Tolerance, in samples per bin, by which a length may exceed a whole number without an additional sample."""


def bin_means(
    features: Tensor, lengths: Tensor, borders: Tensor, video: Tensor, bins: int, to_the_right: bool = False
) -> Tensor:
    """(B, T, D), lengths (B,), borders (N, 2) in snippets, video (N,) -> (N, bins, D): the mean of each bin's samples.

    Snippet i extends from i to i + 1, with its feature at its middle; beyond a video's ends features are zero. A bin
    has one sample per snippet of its length, rounded up. A segment shorter than a snippet is extended to one snippet,
    about its middle, or `to_the_right` of its start (as in torchvision's operator without `aligned`).
    """
    start, length = borders[:, 0] - 0.5, borders[:, 1] - borders[:, 0]
    extent = length.clamp(min=1.0)
    if not to_the_right:
        start = start - (extent - length) / 2
    samples = (extent / bins - _ROUNDING).ceil().long().clamp(min=1)  # (N,) per bin
    per_bin = samples.repeat_interleave(bins)  # (N * bins,)
    first = per_bin.cumsum(0) - per_bin
    row = torch.arange(len(per_bin), device=features.device).repeat_interleave(per_bin)  # (S,) the bin of each sample
    index = (torch.arange(len(row), device=features.device) - first[row]).to(borders.dtype)
    segment = row // bins
    position = start[segment] + (row % bins + (index + 0.5) / per_bin[row]) * (extent / bins)[segment]
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
