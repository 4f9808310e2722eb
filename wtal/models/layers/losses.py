"""Loss terms common to several papers: cross entropy against video-level labels, and contrast of pairs."""

import torch
from torch import Tensor

from wtal.data.batch import SnippetBatch
from wtal.models.layers.temporal import masked_softmax

THUMOS_CLASSES = 20
"""Number of classes of THUMOS14, on which the papers' loss weights were chosen."""
_MARGIN = 0.5


def labels_of(batch: SnippetBatch) -> Tensor:
    """Return the multi-hot labels (B, C).

    Raises:
        ValueError: when the batch has none.
    """
    if batch.labels is None:
        raise ValueError("the loss needs labels (B, C), the batch has none")
    return batch.labels


def with_background(labels: Tensor, background: float) -> Tensor:
    """(B, C) -> (B, C + 1): the background's label appended, then each row normalized to sum to one (or zero)."""
    return normalized(torch.cat([labels, torch.full_like(labels[:, :1], background)], dim=1))


def normalized(labels: Tensor) -> Tensor:
    """(B, C) -> (B, C): each row normalized to sum to one; a row without labels stays zero."""
    return labels / labels.sum(dim=1, keepdim=True).clamp(min=1e-8)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(B, C), (B, C) -> scalar: -sum over classes of target * log softmax, averaged over videos."""
    return -(target * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()


def binary_cross_entropy(scores: Tensor, target: Tensor, classes: int, authors: bool = False) -> Tensor:
    """(B, C) probabilities, (B, C) -> scalar: binary cross entropy over classes, averaged over videos.

    The authors of BaS-Net and UM take the mean over classes, so that its gradient fades as classes are added (at 200 it
    is ten times weaker than at the 20 it was tuned on, against the same other terms). Here the sum over classes is
    divided by at most `classes`, the number for which the method was tuned: equal to the mean up to that number,
    and not weakened further above it.
    """
    with torch.autocast(scores.device.type, enabled=False):
        entropy = torch.nn.functional.binary_cross_entropy(scores.float(), target.float(), reduction="none")
    return entropy.mean() if authors else over_classes(entropy, classes)


def over_classes(entropy: Tensor, classes: int) -> Tensor:
    """(B, C) -> scalar: the sum over classes divided by min(C, `classes`), averaged over videos."""
    return entropy.sum(dim=-1).mean() / min(entropy.shape[-1], classes)


def co_activity(features: Tensor, cas: Tensor, batch: SnippetBatch, pairs: int, authors: bool = False) -> Tensor:
    """(B, T, D), (B, T, C) -> scalar: two videos that share a class should have similar features where it is active.

    For each of the first `pairs` pairs of videos (0, 1), (2, 3), ... and each class that both have: with the softmax
    over time of its activations as attention, the high-attention features of both are pulled together, and pushed away
    from low-attention ones by a margin of 0.5 in cosine distance; the mean over shared classes, then over pairs.
    Source: W-TALC (ECCV 2018), equations 5 to 8. 0 if nothing is shared. The authors take one mean over all shared
    classes of all pairs, so that pairs which share more count more.
    """
    labels = labels_of(batch)
    count = min(pairs, len(labels) // 2)
    if count == 0:
        return cas.sum() * 0.0
    first, second = slice(0, 2 * count, 2), slice(1, 2 * count, 2)
    attention = masked_softmax(cas[: 2 * count, :, : labels.shape[1]].float(), batch.mask[: 2 * count])
    weights = torch.cat([attention, batch.mask[: 2 * count, :, None].float()], dim=-1)
    sums = torch.einsum("btc,btd->bcd", weights, features[: 2 * count].float())
    high, rest = sums[:, :-1], (batch.lengths[: 2 * count] - 1).clamp(min=1)[:, None, None]
    low = (sums[:, -1:] - high) / rest
    between = _distance(high[first], high[second])
    hinge = torch.relu(between - _distance(high[first], low[second]) + _MARGIN)
    hinge = 0.5 * (hinge + torch.relu(between - _distance(high[second], low[first]) + _MARGIN))
    shared = labels[first] * labels[second]
    if authors:
        return (hinge * shared).sum() / shared.sum().clamp(min=1)
    return ((hinge * shared).sum(dim=1) / shared.sum(dim=1).clamp(min=1)).sum() / count


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return 1.0 - torch.nn.functional.cosine_similarity(first, second, dim=-1)
