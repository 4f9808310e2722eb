"""Known negatives: a loss that suppresses classes in videos known to lack them; ours, shared by all heads."""

import torch
from torch import Tensor

from wtal.models.head import HeadOutput
from wtal.models.layers.temporal import masked_mean


def absence(output: HeadOutput, absent: Tensor, mask: Tensor) -> Tensor:
    """`absent` (B, C) in {0, 1}, mask (B, T) -> scalar: -log(1 - p), summed over absent classes, mean over snippets.

    p is the probability that localization thresholds: the softmax of `cas` over classes and background (the sigmoid, if
    a head has no background class) times the attention. A video that lacks a class lacks it in each of its snippets, so
    the loss covers every snippet; the papers' video-level terms would cover only the highest ones. If a head has a
    model per stream, each gets the loss; the mean over streams, then over videos.
    """
    parts = list(output.streams.values()) or [output]
    terms = [masked_mean(_surprise(part, absent), mask).mean() for part in parts]
    return torch.stack(terms).mean()


def _surprise(output: HeadOutput, absent: Tensor) -> Tensor:
    """(B, T): -log(1 - p) of absent classes, summed."""
    cas, classes = output.cas.float(), absent.shape[1]
    shares = cas.softmax(dim=-1)[..., :classes] if cas.shape[-1] > classes else cas.sigmoid()
    if output.attention is not None:
        shares = shares * output.attention.float()[..., None]
    return -((1.0 - shares.clamp(max=1.0 - 1e-4)).log() * absent[:, None]).sum(dim=-1)
