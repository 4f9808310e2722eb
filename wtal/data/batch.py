"""Padded batches of features of several videos, without a field for annotations: weak supervision is structural."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wtal.data.grid import SnippetGrid

_FIRST = ("rgb", "flow")


def stream_order(streams: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Return stream names in the order of concatenation: rgb, flow, then the others by name."""
    return [name for name in _FIRST if name in streams] + sorted(name for name in streams if name not in _FIRST)


@dataclass(frozen=True)
class SnippetBatch:
    """B videos of at most T snippets.

    `streams`: name -> (B, T, D) features, zero where padded. `mask`: (B, T) bool, True for real snippets, which come
    first. `labels`: (B, C) multi-hot floats without background, None at inference. `ids` and `grids` have one entry per
    video, and are empty if they are unknown.
    """

    streams: dict[str, Tensor]
    mask: Tensor
    labels: Tensor | None = None
    ids: tuple[str, ...] = ()
    grids: tuple[SnippetGrid, ...] = ()

    @classmethod
    def from_features(
        cls, streams: Mapping[str, Tensor], labels: Tensor | None = None, mask: Tensor | None = None
    ) -> "SnippetBatch":
        """Create a batch from {stream: (B, T, D)}, (B, C), (B, T); without a mask every snippet is real.

        Raises:
            ValueError: when the streams differ in B or T, or the mask does not fit them.
        """
        shapes = {name: tuple(value.shape[:2]) for name, value in streams.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"streams need one common (B, T), got {shapes}")
        first = next(iter(streams.values()))
        if mask is None:
            mask = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
        if mask.shape != first.shape[:2]:
            raise ValueError(f"the mask must be {tuple(first.shape[:2])}, got {tuple(mask.shape)}")
        return cls({name: streams[name] for name in stream_order(streams)}, mask.bool(), labels)

    @classmethod
    def collate(
        cls,
        videos: Sequence[Mapping[str, Tensor]],
        labels: Tensor | None = None,
        ids: Sequence[str] = (),
        grids: Sequence[SnippetGrid] = (),
    ) -> "SnippetBatch":
        """Collate B videos of {stream: (T_i, D)} into a batch, padded with zeros to the longest."""
        lengths = torch.tensor([len(next(iter(video.values()))) for video in videos])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        streams = {
            name: torch.nn.utils.rnn.pad_sequence([video[name] for video in videos], batch_first=True)
            for name in stream_order(videos[0])
        }
        return cls(streams, mask, labels, tuple(ids), tuple(grids))

    @property
    def lengths(self) -> Tensor:
        """Number of real snippets per video, (B,)."""
        return self.mask.sum(dim=1)

    def features(self) -> Tensor:
        """Concatenate the streams, rgb first, then flow: (B, T, sum of D)."""
        return torch.cat([self.streams[name] for name in stream_order(self.streams)], dim=-1)

    def only(self, stream: str) -> "SnippetBatch":
        """Return the batch with only one of its streams."""
        return replace(self, streams={stream: self.streams[stream]})

    def to(self, device: torch.device | str) -> "SnippetBatch":
        """Move the batch to another device."""
        return replace(
            self,
            streams={name: value.to(device, non_blocking=True) for name, value in self.streams.items()},
            mask=self.mask.to(device, non_blocking=True),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
        )
