"""Late fusion, as in most two-stream methods: one model per stream, with nothing shared, and their outputs fused."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError
from wtal.models.head import Head, HeadOutput, Moment

Fuse = Callable[[Mapping[str, HeadOutput]], HeadOutput]


class LateFusion(Head):
    """Independent models `parts`, stream -> model, trained together; `fuse` combines their outputs.

    Each part's own output is in `HeadOutput.streams`. Loss terms are named TERM_STREAM.
    """

    def __init__(self, parts: Mapping[str, Head], fuse: Fuse) -> None:
        super().__init__()
        first = next(iter(parts.values()))
        self.num_classes, self.pairs, self.stages = first.num_classes, first.pairs, first.stages
        self.parts = nn.ModuleDict(parts)
        self.fuse = fuse

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Run every stream's model, then the fusion.

        Raises:
            UsageError: when the batch lacks a stream.
        """
        missing = [name for name in self.parts if name not in batch.streams]
        if missing:
            raise UsageError(f"this head has a model for {', '.join(self.parts)}; the features lack {missing[0]!r}")
        outputs: dict[str, HeadOutput] = {name: part(batch.only(name)) for name, part in self.parts.items()}
        return replace(self.fuse(outputs), streams=outputs)

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Loss terms of every stream's model."""
        return {
            f"{term}_{name}": value
            for name, part in self._parts()
            for term, value in part.loss(output.streams[name], batch.only(name)).items()
        }

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """Call `begin_step` of each part, with its own stream only."""
        for name, part in self._parts():
            part.begin_step(moment, lambda name=name: (batch.only(name) for batch in videos()))  # type: ignore[misc]

    def end_stage(self, stage: int) -> None:
        """Call `end_stage` of each part."""
        for _, part in self._parts():
            part.end_stage(stage)

    def finish(self) -> None:
        """Call `finish` of each part."""
        for _, part in self._parts():
            part.finish()

    def _parts(self) -> list[tuple[str, Head]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Head)]


def weighted_mean(values: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Average stream -> tensor with stream -> weight; a stream without a weight has weight 1."""
    shares = {name: weights.get(name, 1.0) for name in values}
    stacked = torch.stack([value * (shares[name] / sum(shares.values())) for name, value in values.items()])
    return stacked.sum(dim=0)


def fuse_probabilities(outputs: Mapping[str, HeadOutput], weights: Mapping[str, float] | None = None) -> HeadOutput:
    """Fuse outputs of streams: weighted means of class probabilities (softmax of `cas`), attention and video scores.

    `cas` are the logarithms of the means, so that their softmax recovers the means.
    """
    shares = weights or {}
    first = next(iter(outputs.values()))
    probabilities = weighted_mean(
        {name: output.cas.float().softmax(dim=-1) for name, output in outputs.items()}, shares
    )
    attention = {name: output.attention for name, output in outputs.items() if output.attention is not None}
    return HeadOutput(
        cas=probabilities.clamp(min=torch.finfo(torch.float32).tiny).log(),
        attention=None if first.attention is None else weighted_mean(attention, shares),
        video_scores=weighted_mean({name: output.video_scores for name, output in outputs.items()}, shares),
    )


def one_per_stream(parts: Mapping[str, Head], fuse: Fuse) -> Head:
    """Fuse stream -> model; a single model is returned unchanged."""
    return LateFusion(parts, fuse) if len(parts) > 1 else next(iter(parts.values()))


def of_streams(state: Mapping[str, Any], make: Callable[[Mapping[str, Tensor]], Head], fuse: Fuse) -> Head:
    """Apply `make` to a state dict, or to each of stream -> state dict and fuse the models."""
    if state and all(isinstance(value, Mapping) for value in state.values()):
        return one_per_stream({name: make(value) for name, value in state.items()}, fuse)
    return make(state)
