"""Split batches of many wide videos into parts of similar length, for little padding and cache-sized tensors.

On a CPU, a head's passes over (B, T, E) features are bound by memory traffic: padding is moved like the rest, and
tensors of tens of megabytes are mapped again, page by page, each time one is allocated.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from wtal.data.batch import SnippetBatch
from wtal.models.head import HeadOutput

_NUMBERS = 2**21
"""Largest number of feature values in a part: 8 MB in single precision."""


def in_parts(ask: Callable[[SnippetBatch], HeadOutput], batch: SnippetBatch, width: int) -> HeadOutput:
    """Return `ask`'s output for a batch whose features become `width` wide, part by part if that is faster."""
    parts = split(batch, width)
    if len(parts) == 1:
        return ask(batch)
    return merged([ask(part_of(batch, part, whole=i == 0)) for i, part in enumerate(parts)], parts)


def split(batch: SnippetBatch, width: int, numbers: int = _NUMBERS) -> list[Tensor]:
    """Split a batch whose features become `width` wide: indices (B_i,) of parts, videos of similar length together.

    The longest come first. If all fit into one part, and on other devices, there is one, in the batch's order.
    """
    every = torch.arange(len(batch.mask), device=batch.mask.device)
    if batch.mask.device.type != "cpu" or batch.mask.numel() * width <= numbers:
        return [every]
    lengths, order = batch.lengths.sort(descending=True, stable=True)
    starts = [0]
    for index in range(1, len(lengths)):
        if (index + 1 - starts[-1]) * int(lengths[starts[-1]]) * width > numbers:
            starts.append(index)
    return [order[first:last] for first, last in zip(starts, [*starts[1:], len(order)], strict=True)]


def part_of(batch: SnippetBatch, indices: Tensor, whole: bool) -> SnippetBatch:
    """Select the videos at `indices`, cut to the longest of them, or uncut with `whole`."""
    length = batch.mask.shape[1] if whole else int(batch.lengths[indices].max())
    chosen = indices.tolist()
    return replace(
        batch,
        streams={name: x[indices, :length] for name, x in batch.streams.items()},
        mask=batch.mask[indices, :length],
        labels=None if batch.labels is None else batch.labels[indices],
        ids=tuple(batch.ids[i] for i in chosen) if batch.ids else (),
        grids=tuple(batch.grids[i] for i in chosen) if batch.grids else (),
    )


def merged(outputs: Sequence[HeadOutput], parts: Sequence[Tensor]) -> HeadOutput:
    """Join a head's outputs for the parts into its output for the batch, zero where padded.

    The first part must have been computed `whole`. Parts may differ only in the batch dimension and in time.
    """
    inverse = torch.cat(list(parts)).argsort()

    def join(values: Sequence[Tensor]) -> Tensor:
        shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
        return torch.cat([_padded(value, shape) for value in values])[inverse]

    first = outputs[0]
    return HeadOutput(
        join([output.cas for output in outputs]),
        None
        if first.attention is None
        else join([output.attention for output in outputs if output.attention is not None]),
        join([output.video_scores for output in outputs]),
        {name: join([output.extras[name] for output in outputs]) for name in first.extras},
        embedding=None if first.embedding is None else join([x.embedding for x in outputs if x.embedding is not None]),
    )


def _padded(value: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, ...) -> (B, *shape), zero-padded at the ends."""
    missing = [wanted - size for wanted, size in zip(shape, value.shape[1:], strict=True)]
    return pad(value, [amount for after in reversed(missing) for amount in (0, after)]) if any(missing) else value
