"""Batches of many wide videos in parts of like length: little padding, and tensors that stay near the processor.

On a CPU the passes that a head makes over (B, T, E) features cost what they move: padding is moved like the rest, and
tensors of tens of megabytes are mapped anew, page by page, each time one is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from wtal.data.batch import SnippetBatch
from wtal.models.head import HeadOutput

_NUMBERS = 2**21
"""Of a part's features: 8 MB in single precision."""


def in_parts(ask: Callable[[SnippetBatch], HeadOutput], batch: SnippetBatch, width: int) -> HeadOutput:
    """What `ask` says of a batch whose features become `width` wide, made part by part where that is quicker."""
    parts = split(batch, width)
    if len(parts) == 1:
        return ask(batch)
    return merged([ask(part_of(batch, part, whole=i == 0)) for i, part in enumerate(parts)], parts)


def split(batch: SnippetBatch, width: int, numbers: int = _NUMBERS) -> list[Tensor]:
    """A batch whose features become `width` wide -> indices (B_i,) of parts, videos of like length together.

    The longest come first. There is one part, in the batch's order, where all fit into one, and on other devices.
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
    """The videos at `indices`, as many snippets as the longest of them has, or all of them where `whole`."""
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
    """What a head said of each part -> what it says of the batch, zero where padded.

    The first part must have been asked `whole`. Dimensions behind the first in which parts differ are those of time.
    """
    back = torch.cat(list(parts)).argsort()

    def join(values: Sequence[Tensor]) -> Tensor:
        shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
        return torch.cat([_padded(value, shape) for value in values])[back]

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
    """(B, ...) -> (B, *shape), filled up with zeros at the ends."""
    missing = [wanted - size for wanted, size in zip(shape, value.shape[1:], strict=True)]
    return pad(value, [amount for after in reversed(missing) for amount in (0, after)]) if any(missing) else value
